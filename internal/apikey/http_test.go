package apikey

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
