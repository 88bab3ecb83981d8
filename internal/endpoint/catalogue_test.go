package endpoint

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"omnistart/internal/problem"
)

// lenience is what the contract says about JSON that other readers refuse or read in another way.
const lenience = "If a name occurs twice, the last one counts. Broken UTF-8 and lone surrogates are read as U+FFFD, " +
	"which no field accepts."

// catalogue holds what the catalogue of problems says beside the values of the problem itself.
var catalogue = map[*problem.Problem]struct{ happened, remedy string }{
	problem.InvalidJSON: {"The body is not one JSON object, or text follows it. " + lenience,
		"Send what a JSON library writes."},
	problem.ConfigurationNotAllowed: {"The operator has not allowed this configuration ID.",
		"Ask the operator to add it to `AllowedConfigurationIds`."},
	problem.CallerNotAllowed: {"The caller signed with credentials of a Cognito identity pool, which belong to a person.",
		"Call from a back end, with credentials of its own role. For an app, the operator sets up a JWT or an authorizer."},
	problem.CustomerMismatch: {"`externalCustomerId` differs from the customer in the access token, or in the " +
		"context of the authorizer.", "Leave `externalCustomerId` out."},
	problem.CustomerUnusable: {"The access token, or the context of the authorizer, has no usable customer in " +
		"`CustomerIdClaim`: a string that follows the rule of `externalCustomerId`, or an integer.",
		"The operator corrects `CustomerIdClaim`, or what the identity provider or the authorizer puts there. `error` in " +
			"the log says what is wrong."},
	problem.NotFound: {"The request has another path or method than `POST /omni/start`. On AWS, API Gateway " +
		"responds instead.", "Send a POST request to `/omni/start`. Incode's sample servers have `/start`."},
	problem.BodyTooLarge: {fmt.Sprintf("The body has more than %d KiB.", maxBody>>10), "Send less in `customFields`."},
	problem.UnsupportedMediaType: {"`Content-Type` is not `application/json` in UTF-8, or the request has a " +
		"`Content-Encoding`.", "Set `Content-Type`, and do not compress the body."},
	problem.ValidationFailed: {"One or more fields break the contract. `errors` has a JSON Pointer and the rule for each.",
		"Correct all of them."},
	problem.Internal: {"A defect of this service.", "Report the `requestId` to the operator."},
	problem.ServiceMisconfigured: {"The secret with the API key is missing or contains no key, or the function may not " +
		"read it.", "The operator runs `make set-key` or corrects the permissions. `error` in the log says which."},
	problem.IncodeRejected: {"Incode responded with a 4xx other than 401, 403, 408 and 429.",
		"Check that the configuration exists in this Incode environment, demo or production."},
	problem.IncodeUnauthorized: {"Incode refused the API key, and no newer one was found.",
		"The operator runs `make set-key`, or corrects `IncodeBaseUrl`: key and URL must belong to the same environment."},
	problem.IncodeForbidden: {"Incode responded with a 403 that has no JSON object, as a firewall in front of " +
		"Incode does, and no newer key was found.", "The operator asks Incode, and names the time of the log line."},
	problem.IncodeInvalidResponse: {"Incode responded with 200 without a usable token, with another status that is no " +
		"error, or with an error that contains a session.", "If it lasts, the operator checks `IncodeBaseUrl`."},
	problem.IncodeFailed: {"Incode responded with a 5xx other than 504.", "If it lasts, the operator asks Incode."},
	problem.OutcomeUnknown: {"The connection to Incode broke after part of the request was written, " +
		"or the response was not valid HTTP.", byHand},
	problem.SecretUnavailable: {
		"Secrets Manager was too slow, throttled the request, could not be reached, or responded without a secret.", seeLog},
	problem.IncodeUnavailable: {"Incode could not be reached, or too little time was left for its response.", seeLog},
	problem.IncodeThrottled: {fmt.Sprintf("Incode responded with 429. `Retry-After` is the time that Incode asks for, "+
		"from %d to %d seconds.", retryAfterOf(0), retryAfterOf(24*time.Hour)),
		"If it lasts, the operator agrees on a higher limit with Incode, or lowers `ThrottlingRate`."},
	problem.IncodeTimeout: {"Incode did not respond in time, or responded with 408 or 504.", byHand},
}

const (
	byHand = "Ask the person whether to try again. Do not repeat the request automatically."
	seeLog = "Wait. If it lasts, the operator reads `error` in the log."
)

func TestCatalogueHasEveryProblem(t *testing.T) {
	for _, p := range problem.All {
		if entry := catalogue[p]; entry.happened == "" || entry.remedy == "" {
			t.Errorf("%s is not in the catalogue", p.Code)
		}
	}
	if len(catalogue) != len(problem.All) {
		t.Errorf("the catalogue has %d problems, the code %d", len(catalogue), len(problem.All))
	}
}

// retryOf says whether the same request may be sent again.
func retryOf(p *problem.Problem) string {
	switch {
	case p.Status == 503:
		return "Yes, after the seconds in `Retry-After`."
	case p.SessionStarted == problem.Perhaps:
		return "Only if a second session does no harm."
	case p == problem.ServiceMisconfigured || p == problem.IncodeUnauthorized || p == problem.CustomerUnusable:
		return "Yes, once the operator has corrected it."
	case p == problem.IncodeForbidden:
		return "Yes, once Incode has corrected it."
	}
	return "Not as it is: the response would be the same."
}

func catalogueEntry(p *problem.Problem) string {
	session := map[string]string{
		problem.No:      "No.",
		problem.Perhaps: "Perhaps. If so, nobody has its token, and it stays unused in Incode's dashboard.",
	}[p.SessionStarted]
	return fmt.Sprintf("%s\n\n- Was a session started? %s\n- May I send the same request again? %s\n- What to do: %s",
		catalogue[p].happened, session, retryOf(p), catalogue[p].remedy)
}

// gateway holds the responses of API Gateway itself.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-troubleshooting-lambda.html
var gateway = map[int]struct{ message, sessionStarted string }{
	400: {"Bad Request", problem.No}, 401: {"Unauthorized", problem.No}, 403: {"Forbidden", problem.No},
	404: {"Not Found", problem.No}, 413: {"Request Entity Too Large", problem.No}, 429: {"Too Many Requests", problem.No},
	500: {"Internal Server Error", problem.Perhaps}, 503: {"Service Unavailable", problem.Perhaps},
	504: {"Endpoint request timed out", problem.Perhaps},
}

// gatewayNote explains the responses of API Gateway, which have no problem.
func gatewayNote() string {
	statuses := map[string][]string{}
	for _, status := range slices.Sorted(maps.Keys(gateway)) {
		started := gateway[status].sessionStarted
		statuses[started] = append(statuses[started], strconv.Itoa(status))
	}
	return fmt.Sprintf("API Gateway responds to some requests itself, with `{\"message\": …}`. After its %s no session "+
		"was started. After its %s, or without any response, one may have been started: treat them like `outcome-unknown`.",
		strings.Join(statuses[problem.No], ", "), strings.Join(statuses[problem.Perhaps], ", "))
}

func problemsMarkdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Problems\n\nEvery error of the endpoint is an `application/problem+json` whose `type` is "+
		"`/problems/` and one of these codes. There may be new codes: treat an unknown one by its `status` and "+
		"`sessionStarted`.\n\n%s\n\n"+
		"`make run` serves each entry at its `type`. On AWS the type is only a name, and nothing serves it. "+
		"This page is generated from the code by `go test ./internal/endpoint -run TestContract -update`.\n", gatewayNote())
	for _, p := range problem.All {
		fmt.Fprintf(&b, "\n## %s\n\n**%d %s.** %s\n", p.Code, p.Status, p.Title, catalogueEntry(p))
	}
	return b.String()
}
