package apikey

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"omnistart/internal/network"
)

func TestHTTPClientLimitsAResponse(t *testing.T) {
	body := func(size int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !r.Close {
				t.Error("the client wants to keep the connection")
			}
			_, _ = io.WriteString(w, strings.Repeat("x", size))
		}
	}
	header := func(size int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", size)) }
	}
	for name, tt := range map[string]struct {
		serve http.HandlerFunc
		valid bool
	}{
		"body of 512 KiB":            {body(512 << 10), true},
		"body of 512 KiB and a byte": {body(512<<10 + 1), false},
		"header of 32 KiB":           {header(32 << 10), true},
		"header of 96 KiB":           {header(96 << 10), false},
		"no HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(c, canary+"\r\n\r\n")
			c.Close()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tt.serve)
			t.Cleanup(server.Close)
			read, err := do(t.Context(), server.URL)
			if (err == nil) != tt.valid || len(read) > 512<<10 {
				t.Errorf("%d bytes, %v", len(read), err)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the error quotes the response: %v", err)
			}
		})
	}
}

// do sends a request with NewHTTPClient and returns the body of the response.
func do(ctx context.Context, url string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := NewHTTPClient().Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// TestHTTPClientUsesNetworkDial, which shares no DNS lookups.
func TestHTTPClientUsesNetworkDial(t *testing.T) {
	dial := NewHTTPClient().(client).sdk.(*awshttp.BuildableClient).GetTransport().DialContext
	if reflect.ValueOf(dial).Pointer() != reflect.ValueOf(network.Dial).Pointer() {
		t.Error("it uses another function")
	}
}
