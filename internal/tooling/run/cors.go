//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"omnistart/internal/tooling/apigateway"
)

// templateCORS returns the CORS rules of the template's resource Api for these
// origins, which are separated by commas.
func templateCORS(name, origins string) (cors apigateway.CORS, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return cors, err
	}
	var template struct {
		Resources struct {
			API struct {
				Properties struct {
					CORS []yaml.Node `yaml:"CorsConfiguration"` // !If: a condition and its two branches
				} `yaml:"Properties"`
			} `yaml:"Api"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		return cors, fmt.Errorf("%s: %w", name, err)
	}
	branches := template.Resources.API.Properties.CORS
	if len(branches) != 3 {
		return cors, fmt.Errorf("%s: CorsConfiguration of Api is not an !If", name)
	}
	if err := branches[1].Decode(&cors); err != nil {
		return cors, fmt.Errorf("%s: %w", name, err)
	}
	cors.AllowOrigins = strings.Split(origins, ",")
	return cors, nil
}
