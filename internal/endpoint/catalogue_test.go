package endpoint

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"omnistart/internal/strictjson"
)

// entry is what the catalogue of problems tells beside the code's own table.
type entry struct {
	kind
	happened string
	session  string // whether one was started
	retry    string // whether the same request may be sent again
	remedy   string
}

const (
	no      = "No."
	perhaps = "Perhaps. If so, nobody holds its token, and it stays unused in Incode's dashboard."
	never   = "Not as it is: it would be answered in the same way."
	wait    = "Yes, after the seconds that `Retry-After` tells."
	risk    = "Only if a second session does no harm."
)

var catalogue = []entry{
	{invalidJSON, fmt.Sprintf("The body is not one well-formed JSON object: broken syntax, a repeated key, broken UTF-8, more than %d levels.", strictjson.MaxDepth), no, never, "Send what a JSON library writes."},
	{configurationNotAllowed, "The flow is well-formed, but not on the operator's list.", no, never, "Ask the operator to add it to `AllowedConfigurationIds`."},
	{customerMismatch, "The body names another customer than the access token, or the token names none that is valid.", no, never, "Leave `externalCustomerId` out. If it already is, the operator must check `CustomerIdClaim`."},
	{notFound, "Another path than `/omni/start`. Incode's sample servers have `/start`. Never on AWS, where API Gateway answers.", no, never, "Send a POST request to `/omni/start`."},
	{methodNotAllowed, "Another method than POST: a GET must not start a session, since browsers and proxies repeat it. Never on AWS, where API Gateway answers.", no, never, "Send a POST request."},
	{bodyTooLarge, fmt.Sprintf("The body has more than %d KiB.", maxBody>>10), no, never, "Send less in `customFields`."},
	{unsupportedMediaType, "`Content-Type` is not `application/json` in UTF-8, or there is a `Content-Encoding`.", no, never, "Set the header, and send the body as it is."},
	{validationFailed, "One field or more break the contract. `errors` has a JSON Pointer and a reason for each.", no, never, "Correct them all."},
	{internal, "A defect of this service.", perhaps, risk, "Report the `requestId` to the operator."},
	{serviceMisconfigured, "The secret with the API key is missing, forbidden, or holds no key.", no, "Yes, once the operator has corrected it.", "The operator runs `make set-key` or corrects the permissions; the log tells which."},
	{incodeRejected, "Incode answered with a 4xx other than 401, 403, 408 and 429.", no, never, "Check that the configuration exists in this Incode environment, demo or production."},
	{incodeUnauthorized, "Incode refused the API key, and the secret holds no newer one.", no, "Yes, once the operator has stored a valid key.", "The operator runs `make set-key`, or corrects `IncodeBaseUrl`: key and URL must be of the same environment."},
	{incodeInvalidResponse, "Incode answered 200 without a usable token, another status below 400, or an error that tells of a session.", perhaps, risk, "If it lasts, the operator checks `IncodeBaseUrl`."},
	{incodeFailed, "Incode answered with a 5xx other than 504.", perhaps, risk, "Ask Incode if it lasts."},
	{outcomeUnknown, "The connection to Incode broke after the request had begun to leave.", perhaps, risk, "Let the person try again by hand rather than by a loop."},
	{secretUnavailable, "Secrets Manager was slow, throttled or not reached.", no, wait, "Nothing. If it lasts, the operator looks at `error` in the log."},
	{incodeUnavailable, "Incode was provably not reached, or too little time was left to call it.", no, wait, "Nothing. If it lasts, the operator looks at `error` in the log."},
	{incodeThrottled, fmt.Sprintf("Incode answered 429. `Retry-After` is what it asks for, %d to %d seconds.", secondsToWait(0), secondsToWait(24*time.Hour)), no, wait, "The operator agrees on a higher limit with Incode, or lowers `ThrottlingRate`."},
	{incodeTimeout, "Incode gave no full answer in time, or answered 408 or 504.", perhaps, risk, "Let the person try again by hand rather than by a loop."},
}

func TestTheCatalogueIsWhole(t *testing.T) {
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`kind\{status: \d+, code: "([a-z-]+)"`).FindAllSubmatch(source, -1)
	if len(declared) < 19 || len(declared) != len(catalogue) {
		t.Errorf("the code has %d problems, the catalogue %d", len(declared), len(catalogue))
	}
	for _, d := range declared {
		if !slices.ContainsFunc(catalogue, func(e entry) bool { return e.code == string(d[1]) }) {
			t.Errorf("%s is not in the catalogue", d[1])
		}
	}
	for _, e := range catalogue {
		// The answer itself must not contradict what the catalogue says.
		if denies := strings.Contains(e.detail, "o session was started"); denies && e.session != no {
			t.Errorf("%s: its detail denies a session", e.code)
		}
		if strings.Contains(e.detail, "may have been started") != (e.session == perhaps) && e.code != "internal" {
			t.Errorf("%s: detail %q, catalogue %q", e.code, e.detail, e.session)
		}
		if (e.status == 503) != (e.retry == wait) {
			t.Errorf("%s: 503 alone has Retry-After", e.code)
		}
		if (e.session == perhaps) != (e.retry == risk) || e.status < 500 && e.retry != never {
			t.Errorf("%s: status %d, a session: %s the same again: %s", e.code, e.status, e.session, e.retry)
		}
	}
}

// gateway holds the answers that API Gateway gives by itself.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-troubleshooting-lambda.html
var gateway = map[int]struct {
	message string
	perhaps bool // whether the function may have been called, and a session started
}{
	400: {"Bad Request", false}, 401: {"Unauthorized", false}, 403: {"Forbidden", false}, 404: {"Not Found", false},
	413: {"Request Entity Too Large", false}, 429: {"Too Many Requests", false},
	500: {"Internal Server Error", true}, 503: {"Service Unavailable", true}, 504: {"Endpoint request timed out", true},
}

// gatewayStatuses lists those after which a session may exist, or those after
// which none does.
func gatewayStatuses(perhaps bool) string {
	var list []string
	for _, status := range slices.Sorted(maps.Keys(gateway)) {
		if gateway[status].perhaps == perhaps {
			list = append(list, strconv.Itoa(status))
		}
	}
	return strings.Join(list, ", ")
}

// unanswered tells what no problem can.
func unanswered() string {
	return fmt.Sprintf("API Gateway answers some calls by itself, with `{\"message\": …}`. After its %s no session was started. "+
		"After its %s, or without any answer, one may have been: treat them like `outcome-unknown`.", gatewayStatuses(false), gatewayStatuses(true))
}

func problemsMarkdown() string {
	var b strings.Builder
	b.WriteString("# Problems\n\nEvery error of the endpoint is an `application/problem+json` whose `type` is `/problems/` and one of these codes. " +
		"More codes may come: treat one that you do not know by its status.\n\n" + unanswered() +
		"\n\n`make run` serves each entry at its `type`; on AWS that is a name, and nothing serves it. " +
		"Made from the code's own table by `go test ./internal/endpoint -run TestContract -update`.\n")
	for _, e := range catalogue {
		fmt.Fprintf(&b, "\n## %s\n\n**%d %s.** %s\n\n- Was a session started? %s\n- May I send the same again? %s\n- What to do: %s\n", e.code, e.status, e.title, e.happened, e.session, e.retry, e.remedy)
	}
	return b.String()
}
