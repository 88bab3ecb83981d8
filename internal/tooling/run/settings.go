//go:build unix

package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/agext/levenshtein"
	"go.yaml.in/yaml/v3"

	"omnistart/internal/tooling/apigateway"
)

// listen checks the variables of this program and listens on PORT.
func listen(getenv func(string) string) (net.Listener, error) {
	for _, variable := range []struct{ name, pattern, rule string }{
		{"CORS", `^https?://[a-z0-9.-]+(:[0-9]{1,5})?$`, "an origin like http://localhost:5173, with no slash at the end"},
		{"HOSTS", `^[a-z0-9.-]+$`, "a host like 10.0.2.2, without a port"},
		{"PORT", `^[0-9]{1,5}$`, "a port like 3001"},
	} {
		for _, entry := range list(getenv(variable.name)) {
			if !regexp.MustCompile(variable.pattern).MatchString(entry) {
				return nil, fmt.Errorf("%s: %q is not %s", variable.name, entry, variable.rule)
			}
		}
	}
	port := cmp.Or(getenv("PORT"), "3000")
	listener, err := net.Listen("tcp", net.JoinHostPort("localhost", port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %s is in use: choose another one, as in PORT=3001 make run", port)
	}
	return listener, err
}

// list splits at commas and spaces.
func list(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}

// warnings has a line for each variable of an environment that nothing reads, although its name looks like one that is
// read.
func warnings(environ []string) (lines string) {
	known := []string{"CORS", "HOSTS", "INCODE_API_KEY", "INCODE_BASE_URL", "PORT"}
	for _, variable := range settings(func(string) string { return "-" }, "-") {
		known = append(known, strings.TrimSuffix(variable, "=-"))
	}
	slices.Sort(known)
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		similar := func(k string) bool {
			return strings.HasPrefix(name, "INCODE_") || strings.HasPrefix(name, "ALLOWED_") ||
				strings.HasPrefix(name, "CORS_") || name == "REQUIRE_AUTHORIZER" ||
				levenshtein.Distance(strings.ToUpper(name), k, nil) <= min(2, len(k)/4)
		}
		if slices.ContainsFunc(known, similar) && !slices.Contains(known, name) {
			lines += fmt.Sprintf("Warning: %s has no effect. These have: %s\n", name, strings.Join(known, ", "))
		}
	}
	return lines
}

// templateCORS returns the CORS rules of the template's resource Api for these origins, which are separated by commas,
// without further headers.
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
	cors.AllowOrigins = list(origins)
	return cors, nil
}
