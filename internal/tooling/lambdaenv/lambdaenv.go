// Package lambdaenv contains the environment of the function: what Lambda sets, and what the function needs to find its
// secret and Incode.
package lambdaenv

// SecretID is the name of the secret with Incode's API key.
const SecretID = "omnistart/incode-api-key" //nolint:gosec // a name

// Variables returns the whole environment of a function that calls Secrets Manager and Incode at these URLs, as
// "name=value". A variable in more replaces one of the same name, because os/exec takes the last.
func Variables(secretsURL, incodeURL string, more ...string) []string {
	return append([]string{
		"AWS_LAMBDA_FUNCTION_NAME=start",
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=local",
		"AWS_SECRET_ACCESS_KEY=local",
		"AWS_SESSION_TOKEN=local",
		// Lambda has neither file, and the developer's own must not change the SDK.
		"AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER=" + secretsURL,
		"INCODE_API_KEY_SECRET_ID=" + SecretID,
		"INCODE_BASE_URL=" + incodeURL,
	}, more...)
}
