// Package config reads the function's settings from its environment.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Config holds the settings of one process. It never changes, so it may be shared between goroutines. The zero value
// allows nothing.
type Config struct {
	// SecretID is the name or ARN of the Secrets Manager secret that holds Incode's API key.
	SecretID string
	// KeyMaxAge is the age after which the key is loaded again.
	KeyMaxAge time.Duration
	// IncodeBaseURL is a scheme and a host, without a path or a trailing slash.
	IncodeBaseURL *url.URL
	// ConfigurationIDs are the Incode flows that callers may start. A single "*" stands for every flow.
	ConfigurationIDs map[string]bool
	// RedirectHosts are the hosts, in lower case and with a port where they have one, that redirectionUrl may name.
	// Without any, redirectionUrl is refused.
	RedirectHosts map[string]bool
	// CustomFields are the names of the custom fields that a customer may set. A back end may set any.
	CustomFields map[string]bool
	// CustomerIDClaim names the external customer ID: a claim of the JWT, or a member of the authorizer's context.
	CustomerIDClaim string
	// AllowUnauthenticated accepts events without an authorizer context, such as those of sam local. Their caller is
	// treated as a back end.
	AllowUnauthenticated bool
	// ReturnInterviewID adds the interview ID to the response.
	ReturnInterviewID bool
	// IncodeTimeout bounds one call to Incode. The deadline of the invocation may shorten it.
	IncodeTimeout time.Duration
}

// ConfigurationID matches Incode's flow and workflow IDs: every published example is 24 lower-case hex digits.
var ConfigurationID = regexp.MustCompile(`^[0-9a-f]{24}$`)

// FromEnv reads the settings through getenv, which has the signature of [os.Getenv]. An empty variable counts as
// unset, because AWS SAM passes an optional parameter that is not set as "". The error joins every problem and quotes
// no value, so it may be logged. Ignore the Config when the error is not nil.
func FromEnv(getenv func(string) string) (Config, error) {
	var problems []error
	refuse := func(name, rule string) { problems = append(problems, errors.New(name+" "+rule)) }
	text := func(name, fallback, pattern, rule string) string {
		value := cmp.Or(getenv(name), fallback)
		if !regexp.MustCompile(pattern).MatchString(value) {
			refuse(name, "must be "+rule)
		}
		return value
	}
	// list splits at commas. It ignores empty entries, and white space around an entry.
	list := func(name, pattern, rule string) map[string]bool {
		entries, valid := map[string]bool{}, regexp.MustCompile(pattern)
		for i, entry := range strings.Split(getenv(name), ",") {
			entry = strings.TrimSpace(entry)
			if entry != "" && !valid.MatchString(entry) {
				refuse(name, fmt.Sprintf("entry %d must be %s", i+1, rule))
			}
			entries[entry] = true
		}
		delete(entries, "")
		return entries
	}
	c := Config{
		// Secrets Manager allows these characters in a name, and an ARN adds colons.
		SecretID: text("INCODE_API_KEY_SECRET_ID", "", `^[A-Za-z0-9/_+=.@:-]+$`,
			"the name or the ARN of the secret with the API key"),
		ConfigurationIDs: list("ALLOWED_CONFIGURATION_IDS", `^([0-9a-f]{24}|\*)$`, "24 lower-case hex digits, or *"),
		RedirectHosts: list("ALLOWED_REDIRECT_HOSTS", `^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?$`,
			"a host name in lower case, without scheme or path"),
		CustomFields:    list("ALLOWED_CUSTOM_FIELDS", `^[^\p{Cc}\x{FFFD}]{1,64}$`, "a name of 1 to 64 characters"),
		CustomerIDClaim: text("CUSTOMER_ID_CLAIM", "sub", `^\S(.*\S)?$`, "a name without white space around it"),

		AllowUnauthenticated: text("ALLOW_UNAUTHENTICATED", "false", `^(true|false)$`, "true or false") == "true",
		ReturnInterviewID:    text("RETURN_INTERVIEW_ID", "false", `^(true|false)$`, "true or false") == "true",
	}
	if len(c.ConfigurationIDs) == 0 || c.ConfigurationIDs["*"] && len(c.ConfigurationIDs) > 1 {
		refuse("ALLOWED_CONFIGURATION_IDS", "must list the configuration IDs that callers may use, or be a single *")
	}
	// Plain HTTP would show the key to the network, so it is for stand-ins on the developer's machine only.
	base := text("INCODE_BASE_URL", "", `^(https://[a-z0-9][a-z0-9.-]*|`+
		`http://(localhost|127\.0\.0\.1|host\.docker\.internal))(:[0-9]+)?$`,
		"https:// and a host in lower case, without a path or a slash at the end (http:// for localhost only)")
	c.IncodeBaseURL, _ = url.Parse(base) // cannot fail where the pattern matches

	duration := func(name, fallback string, least, most time.Duration) time.Duration {
		value, err := time.ParseDuration(cmp.Or(getenv(name), fallback))
		if err != nil || value < least || value > most {
			refuse(name, fmt.Sprintf("must be a duration from %v to %v, such as %s", least, most, fallback))
		}
		return value
	}
	c.KeyMaxAge = duration("INCODE_API_KEY_MAX_AGE", "5m", time.Second, 24*time.Hour)
	// Less than a second leaves no time for a handshake and a response. After 30 seconds, API Gateway gives up.
	// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
	c.IncodeTimeout = duration("INCODE_TIMEOUT", "10s", time.Second, 28*time.Second)
	return c, errors.Join(problems...)
}
