package apikey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHTTPClientTrustsNoReply(t *testing.T) {
	get := func(t *testing.T, answer http.HandlerFunc) (*http.Response, error) {
		server := httptest.NewServer(answer)
		t.Cleanup(server.Close)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		return NewHTTPClient().Do(r)
	}
	t.Run("body", func(t *testing.T) {
		resp, err := get(t, func(w http.ResponseWriter, r *http.Request) {
			if !r.Close {
				t.Error("the connection is to be kept")
			}
			_, _ = io.Copy(w, strings.NewReader(strings.Repeat("x", 512<<10+1)))
		})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 512<<10 {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	})
	for size, ok := range map[int]bool{32 << 10: true, 96 << 10: false} {
		t.Run(fmt.Sprintf("header of %d", size), func(t *testing.T) {
			resp, err := get(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", size)) })
			if err == nil {
				resp.Body.Close()
			}
			if (err == nil) != ok {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("broken", func(t *testing.T) {
		_, err := get(t, func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(c, canary+"\r\n\r\n")
			c.Close()
		})
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("got %v", err)
		}
	})
}

// TestLookupsAreNotShared has a resolver whose packets are lost: a second
// request must not wait for the answer to the first one's questions, of which
// there are two, for IPv4 and IPv6.
func TestLookupsAreNotShared(t *testing.T) {
	defer func(real *net.Resolver) { net.DefaultResolver = real }(net.DefaultResolver)
	asked := make(chan struct{}, 100)
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // a defect that hangs is to fail
	defer cancel()
	c := NewHTTPClient()
	for range 2 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://secrets.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if resp, err := c.Do(r); err == nil {
				resp.Body.Close()
			}
		}()
	}
	for i := range 4 {
		select {
		case <-asked:
		case <-time.After(4 * time.Second): // Go itself asks again after 5 s
			t.Fatalf("two lookups asked %d questions, want 4", i)
		}
	}
}

func TestKindOfEveryCode(t *testing.T) {
	for _, code := range []string{"AccessDenied", "AccessDeniedException", "DecryptionFailure", "IncompleteSignature", "InvalidClientTokenId",
		"InvalidParameterException", "InvalidRequestException", "InvalidSignatureException", "NotAuthorized", "OptInRequired", "ResourceNotFoundException",
		"UnrecognizedClientException", "ValidationError", "ValidationException"} {
		if err := kind(coded(code)); !errors.Is(err, ErrMisconfigured) {
			t.Errorf("%s: %v", code, err)
		}
	}
	if err := kind(coded("")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no code: %v", err)
	}
}

type coded string

func (c coded) Error() string     { return canary }
func (c coded) ErrorCode() string { return string(c) }
