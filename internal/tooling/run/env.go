//go:build unix

package main

import (
	"strings"

	"omnistart/internal/tooling/incodetest"
)

// functionEnv returns the function's whole environment: what Lambda sets, what
// the function's contract asks for, and of the user's own only the contract's
// settings. INCODE_API_KEY is none of them.
func functionEnv(getenv func(string) string, secretsURL, incodeURL, allowed string) []string {
	env := []string{
		"AWS_LAMBDA_FUNCTION_NAME=start",
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=local",
		"AWS_SECRET_ACCESS_KEY=local",
		"AWS_SESSION_TOKEN=local",
		// Lambda has neither file; the user's must not change what the SDK does
		// here.
		"AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER=" + secretsURL,
		"INCODE_API_KEY_SECRET_ID=" + secretID,
		"INCODE_BASE_URL=" + incodeURL,
	}
	settings := map[string]string{
		"ALLOWED_CONFIGURATION_IDS": allowed,
		"ALLOWED_REDIRECT_HOSTS":    "app.example.com", // of the contract's example
		"CUSTOMER_ID_CLAIM":         "",
		"REQUIRE_AUTHORIZER":        "",
		"RETURN_INTERVIEW_ID":       "",
		"INCODE_TIMEOUT":            "",
	}
	for name, value := range settings {
		if own := getenv(name); own != "" {
			value = own
		}
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// flowIDs returns the allow-list with every flow of Incode's stand-in.
func flowIDs() string {
	var ids []string
	for _, flow := range incodetest.Flows {
		ids = append(ids, flow.ID)
	}
	return strings.Join(ids, ",")
}
