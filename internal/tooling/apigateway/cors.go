package apigateway

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// CORS contains the rules of an HTTP API's CorsConfiguration, under the names that they have there. The zero value
// allows no origin.
type CORS struct {
	AllowOrigins  []string `yaml:"-"` // as browsers send them, not *; set by a parameter of the template
	AllowMethods  []string `yaml:"AllowMethods"`
	AllowHeaders  []string `yaml:"-"` // extended by a parameter of the template
	ExposeHeaders []string `yaml:"ExposeHeaders"`
	MaxAge        int      `yaml:"MaxAge"` // seconds
}

// Handler answers preflight requests with 204 and passes all others to next. As on API Gateway, the response to an
// allowed origin contains all rules, whatever the request asks for: the browser compares. (Middleware such as rs/cors
// compares on the server and omits the rules when a request breaks one.)
//
// See "Configure CORS for HTTP APIs" in the API Gateway developer guide.
func (c CORS) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header, origin := w.Header(), r.Header.Get("Origin")
		preflight := r.Method == http.MethodOptions && origin != "" && r.Header.Get("Access-Control-Request-Method") != ""
		header.Set("Vary", "Origin")
		if origin != "" && slices.Contains(c.AllowOrigins, origin) {
			header.Set("Access-Control-Allow-Origin", origin)
			header.Set("Access-Control-Expose-Headers", strings.Join(c.ExposeHeaders, ","))
			if preflight {
				header.Set("Access-Control-Allow-Methods", strings.Join(c.AllowMethods, ","))
				header.Set("Access-Control-Allow-Headers", strings.Join(c.AllowHeaders, ","))
				header.Set("Access-Control-Max-Age", strconv.Itoa(c.MaxAge))
			}
		}
		if preflight {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Refusal returns why a browser refuses the request behind a preflight, or "" for any other request.
func (c CORS) Refusal(r *http.Request) string {
	var refused []string
	for header, allowed := range map[string][]string{"Origin": c.AllowOrigins,
		"Access-Control-Request-Method": c.AllowMethods, "Access-Control-Request-Headers": c.AllowHeaders} {
		for value := range strings.SplitSeq(r.Header.Get(header), ",") {
			value = strings.TrimSpace(value)
			equal := func(a string) bool { return strings.EqualFold(a, value) } // as the names of headers are compared
			if value != "" && !slices.ContainsFunc(allowed, equal) {
				refused = append(refused, fmt.Sprintf("%s %q is not allowed", header, value))
			}
		}
	}
	if r.Method != http.MethodOptions || r.Header.Get("Origin") == "" ||
		r.Header.Get("Access-Control-Request-Method") == "" {
		return ""
	}
	return strings.Join(slices.Sorted(slices.Values(refused)), ", ")
}
