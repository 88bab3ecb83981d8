//go:build unix

package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"omnistart/internal/tooling/apigateway"
)

// templateCORS returns the CORS rules of the template's resource Api for these
// origins, which are separated by commas, without further headers.
func templateCORS(name, origins string) (cors apigateway.CORS, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return cors, err
	}
	var template struct {
		Resources map[string]struct {
			Properties struct {
				CORS []yaml.Node `yaml:"CorsConfiguration"` // !If: a condition and its two branches
			} `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		return cors, fmt.Errorf("%s: %w", name, err)
	}
	branches := template.Resources["Api"].Properties.CORS
	if len(branches) != 3 {
		return cors, fmt.Errorf("%s: CorsConfiguration of Api is not an !If", name)
	}
	var rules struct {
		apigateway.CORS `yaml:",inline"`
		Headers         []yaml.Node `yaml:"AllowHeaders"` // !If: CorsHeaders has a value, with it, without it
	}
	if err := branches[1].Decode(&rules); err != nil {
		return cors, fmt.Errorf("%s: %w", name, err)
	}
	if len(rules.Headers) != 3 {
		return cors, fmt.Errorf("%s: AllowHeaders of Api is not an !If", name)
	}
	cors = rules.CORS
	if err := rules.Headers[2].Decode(&cors.AllowHeaders); err != nil {
		return cors, fmt.Errorf("%s: %w", name, err)
	}
	cors.AllowOrigins = strings.Split(origins, ",")
	return cors, nil
}

// problems serves the catalogue of problems, or only the entry of {code}.
func problems(file string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile(file)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		page := string(text)
		if code := r.PathValue("code"); code != "" {
			_, entry, ok := strings.Cut(page, "\n## "+code+"\n")
			if !ok {
				http.Error(w, "No such problem. The list is at /problems/", http.StatusNotFound)
				return
			}
			entry, _, _ = strings.Cut(entry, "\n## ")
			page = "# " + code + "\n" + entry
		}
		w.Header().Set("Content-Type", "text/markdown; charset=utf-8")
		fmt.Fprint(w, page)
	}
}
