// Package config reads the function's settings from its environment.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Config holds the settings of one process. It is read once and never changes,
// so it may be shared between goroutines. The zero value allows nothing.
type Config struct {
	// SecretID is the name or ARN of the Secrets Manager secret that holds
	// Incode's API key.
	SecretID string
	// IncodeBaseURL is a scheme and a host, without a path or a trailing slash.
	IncodeBaseURL *url.URL
	// Configurations are the Incode flows that callers may start.
	Configurations Allowlist
	// RedirectHosts are the hosts, with a port where they have one, that a
	// session may send its person back to. Lower case; empty refuses all.
	RedirectHosts map[string]bool
	// CustomerIDClaim names the JWT claim that is the external customer ID.
	CustomerIDClaim string
	// RequireAuthorizer refuses every event that no authorizer of API Gateway has
	// let in, as sam local, which has none, hands over. Such a caller may name any
	// customer.
	RequireAuthorizer bool
	// ReturnInterviewID hands the interview ID out beside the token.
	ReturnInterviewID bool
	// IncodeTimeout bounds one call to Incode. It is cut further to what the
	// invocation's deadline leaves.
	IncodeTimeout time.Duration
}

// Allowlist is the set of configuration IDs that callers may use. The zero
// value allows none.
type Allowlist struct {
	all bool
	ids map[string]bool
}

// Allows reports whether a well-formed configuration ID may be used.
func (l Allowlist) Allows(id string) bool { return l.all || l.ids[id] }

// ConfigurationID matches Incode's flow and workflow IDs: every published
// example is 24 lower-case hex digits.
var ConfigurationID = regexp.MustCompile(`^[0-9a-f]{24}$`)

var (
	// Secrets Manager allows these characters in a name, and an ARN adds colons.
	secretID = regexp.MustCompile(`^[A-Za-z0-9/_+=.@:-]+$`)
	host     = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)
)

// The bounds of the time for one call to Incode. The least leaves room for a
// handshake and a reply: less is a slip. The greatest is below the 30 seconds after
// which an API Gateway HTTP API gives up on its integration.
const (
	minIncodeTimeout = time.Second
	maxIncodeTimeout = 28 * time.Second
)

// FromEnv reads the environment through getenv, which has the signature of
// [os.Getenv]. An empty variable counts as unset: AWS SAM hands over an
// undefined optional parameter as "". The error joins every fault found and
// quotes no value, since it is reported to the log; what stands beside it is of no
// use.
func FromEnv(getenv func(string) string) (Config, error) {
	var faults []error
	fault := func(name, format string, args ...any) {
		faults = append(faults, fmt.Errorf(name+" "+format, args...))
	}

	c := Config{
		SecretID:        getenv("INCODE_API_KEY_SECRET_ID"),
		RedirectHosts:   map[string]bool{},
		CustomerIDClaim: cmp.Or(getenv("CUSTOMER_ID_CLAIM"), "sub"),
		IncodeTimeout:   10 * time.Second,
	}

	if !secretID.MatchString(c.SecretID) {
		fault("INCODE_API_KEY_SECRET_ID", "must be the name or the ARN of the secret that holds the API key")
	}
	var err error
	if c.IncodeBaseURL, err = baseURL(getenv("INCODE_BASE_URL")); err != nil {
		fault("INCODE_BASE_URL", "%w", err)
	}

	switch ids := list(getenv("ALLOWED_CONFIGURATION_IDS")); {
	case len(ids) == 0:
		fault("ALLOWED_CONFIGURATION_IDS", "must list the configuration IDs that callers may use, or be * to allow every one")
	case len(ids) == 1 && ids[0] == "*":
		c.Configurations.all = true
	default:
		c.Configurations.ids = map[string]bool{}
		for i, id := range ids {
			if !ConfigurationID.MatchString(id) {
				fault("ALLOWED_CONFIGURATION_IDS", "entry %d must be 24 lower-case hex digits (or the list * alone)", i+1)
			}
			c.Configurations.ids[id] = true
		}
	}

	for i, h := range list(getenv("ALLOWED_REDIRECT_HOSTS")) {
		h = strings.ToLower(h)
		if !host.MatchString(h) {
			fault("ALLOWED_REDIRECT_HOSTS", "entry %d must be a host name without scheme or path", i+1)
		}
		c.RedirectHosts[h] = true
	}

	if strings.TrimSpace(c.CustomerIDClaim) != c.CustomerIDClaim {
		fault("CUSTOMER_ID_CLAIM", "must not begin or end with white space")
	}

	flag := func(name string) bool {
		v := getenv(name)
		if v != "" && v != "true" && v != "false" {
			fault(name, "must be true or false")
		}
		return v == "true"
	}
	c.RequireAuthorizer, c.ReturnInterviewID = flag("REQUIRE_AUTHORIZER"), flag("RETURN_INTERVIEW_ID")

	if v := getenv("INCODE_TIMEOUT"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < minIncodeTimeout || d > maxIncodeTimeout {
			fault("INCODE_TIMEOUT", "must be a duration from %v to %v, such as 10s", minIncodeTimeout, maxIncodeTimeout)
		}
		c.IncodeTimeout = d
	}

	return c, errors.Join(faults...)
}

// list splits a comma-separated value; white space around an entry and a
// trailing comma mean nothing.
func list(v string) []string {
	var entries []string
	for e := range strings.SplitSeq(v, ",") {
		if e = strings.TrimSpace(e); e != "" {
			entries = append(entries, e)
		}
	}
	return entries
}

func baseURL(v string) (*url.URL, error) {
	u, err := url.Parse(v)
	if err != nil || u.Hostname() == "" || v != u.Scheme+"://"+u.Host {
		return nil, errors.New("must be a scheme and a host such as https://demo-api.incodesmile.com, without a path or a trailing slash")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !local(u.Hostname())) {
		return nil, errors.New("must be https; http is for a stand-in on loopback or host.docker.internal only")
	}
	return u, nil
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || host == "host.docker.internal" || ip != nil && ip.IsLoopback()
}
