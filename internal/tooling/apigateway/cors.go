package apigateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// CORS holds the rules of an HTTP API's CorsConfiguration, under the names that
// they have there. The zero value lets no origin in.
type CORS struct {
	AllowOrigins  []string `yaml:"-"` // as browsers send them, no *; in a template they depend on a parameter
	AllowMethods  []string `yaml:"AllowMethods"`
	AllowHeaders  []string `yaml:"AllowHeaders"`
	ExposeHeaders []string `yaml:"ExposeHeaders"`
	MaxAge        int      `yaml:"MaxAge"` // seconds
}

// Handler answers preflight requests, all of them with 204, and hands the others
// to next. A listed origin gets the whole rules, whatever it has asked for: it is
// the browser that compares. (Middleware compares on the server, and so refuses
// headers that curl sends in another order than a browser, and hides from a page
// why its method is not allowed.)
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
