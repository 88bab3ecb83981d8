package apigateway_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"omnistart/internal/tooling/apigateway"
)

func TestCORSRulesAreForListedOrigins(t *testing.T) {
	const listed, other = "https://b.example.com", "https://c.example.com"
	rules := apigateway.CORS{
		AllowOrigins:  []string{"https://a.example.com", listed, ""}, // CORS="a,b," has an empty one
		AllowMethods:  []string{"POST", "PUT"},
		AllowHeaders:  []string{"authorization", "content-type"},
		ExposeHeaders: []string{"retry-after"},
		MaxAge:        3600,
	}
	answered := map[string]string{"Access-Control-Allow-Origin": listed, "Access-Control-Expose-Headers": "retry-after"}
	allowed := maps.Clone(answered)
	allowed["Access-Control-Allow-Methods"] = "POST,PUT"
	allowed["Access-Control-Allow-Headers"] = "authorization,content-type"
	allowed["Access-Control-Max-Age"] = "3600"
	const next = http.StatusTeapot
	tests := []struct {
		name, method, origin, asks, headers string
		status                              int
		want                                map[string]string
	}{
		{"preflight", "OPTIONS", listed, "POST", "content-type", 204, allowed},
		{"preflight written by hand", "OPTIONS", listed, "POST", "Content-Type, Authorization", 204, allowed},
		{"preflight for a method that is not allowed", "OPTIONS", listed, "DELETE", "x-api-key", 204, allowed},
		{"preflight of another origin", "OPTIONS", other, "POST", "content-type", 204, nil},
		{"preflight of a page without an origin", "OPTIONS", "null", "POST", "", 204, nil},
		{"OPTIONS that is not a preflight", "OPTIONS", listed, "", "", next, answered},
		{"OPTIONS without an origin", "OPTIONS", "", "POST", "", next, nil},
		{"request", "POST", listed, "", "", next, answered},
		{"request with a method that is not allowed", "GET", listed, "", "", next, answered},
		{"request of another origin", "POST", other, "", "", next, nil},
		{"request of an origin with a listed prefix", "POST", listed + ".evil.example", "", "", next, nil},
		{"request without an origin", "POST", "", "", "", next, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/omni/start", nil)
			for name, value := range map[string]string{
				"Origin": tt.origin, "Access-Control-Request-Method": tt.asks, "Access-Control-Request-Headers": tt.headers,
			} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			w := httptest.NewRecorder()
			rules.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(next) })).ServeHTTP(w, r)
			if w.Code != tt.status || w.Header().Get("Vary") != "Origin" {
				t.Errorf("%d %v, want %d", w.Code, w.Header(), tt.status)
			}
			got := map[string]string{}
			for name := range w.Header() {
				if strings.HasPrefix(name, "Access-Control-") {
					got[name] = w.Header().Get(name)
				}
			}
			if !maps.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRefusalNamesWhatIsNotAllowed(t *testing.T) {
	rules := apigateway.CORS{AllowOrigins: []string{"https://a.example.com"}, AllowMethods: []string{"POST"},
		AllowHeaders: []string{"authorization", "content-type"}}
	const listed = "https://a.example.com"
	for _, tt := range []struct{ name, method, origin, asks, headers, want string }{
		{"allowed", "OPTIONS", listed, "POST", "authorization, content-type", ""},
		{"no headers", "OPTIONS", listed, "POST", "", ""},
		{"header in another case", "OPTIONS", listed, "POST", "Content-Type", ""},
		{"origin", "OPTIONS", "https://b.example.com", "POST", "", `Origin "https://b.example.com" is not allowed`},
		{"method", "OPTIONS", listed, "PUT", "", `Access-Control-Request-Method "PUT" is not allowed`},
		{"one of two headers", "OPTIONS", listed, "POST", "content-type,traceparent",
			`Access-Control-Request-Headers "traceparent" is not allowed`},
		{"everything", "OPTIONS", "null", "PUT", "x-a",
			`Access-Control-Request-Headers "x-a" is not allowed, Access-Control-Request-Method "PUT" is not allowed, ` +
				`Origin "null" is not allowed`},
		{"no preflight", "OPTIONS", "null", "", "x-a", ""},
		{"no origin", "OPTIONS", "", "PUT", "x-a", ""},
		{"request", "POST", "null", "PUT", "", ""},
	} {
		r := httptest.NewRequest(tt.method, "/omni/start", nil)
		for name, value := range map[string]string{
			"Origin": tt.origin, "Access-Control-Request-Method": tt.asks, "Access-Control-Request-Headers": tt.headers,
		} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if got := rules.Refusal(r); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
