//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/rs/cors"
	"go.yaml.in/yaml/v3"
)

// templateCORS returns the CORS rules that template.yaml gives its API, for
// these origins. rs/cors is stricter than a browser needs it to be: it wants the
// headers that a preflight asks for in lower case and sorted, as browsers send
// them.
func templateCORS(name, origins string) (*cors.Cors, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
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
	var rules struct {
		Methods []string `yaml:"AllowMethods"`
		Headers []string `yaml:"AllowHeaders"`
		Expose  []string `yaml:"ExposeHeaders"`
		MaxAge  int      `yaml:"MaxAge"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	branches := template.Resources.API.Properties.CORS
	if len(branches) != 3 {
		return nil, fmt.Errorf("%s: CorsConfiguration of Api is no !If", name)
	}
	if err := branches[1].Decode(&rules); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return cors.New(cors.Options{
		AllowedOrigins: strings.Split(origins, ","),
		AllowedMethods: rules.Methods,
		AllowedHeaders: rules.Headers,
		ExposedHeaders: rules.Expose,
		MaxAge:         rules.MaxAge,
	}), nil
}
