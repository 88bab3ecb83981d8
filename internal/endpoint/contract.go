package endpoint

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"omnistart/internal/config"
	"omnistart/internal/problem"
)

// field is one member of the request body. The code and the OpenAPI document are made from these rows.
type field struct {
	name       string
	otherNames []string // names in Incode's guides and in programs that call Incode, as normalize returns them
	required   bool
	pattern    *regexp.Regexp                   // of a text, or nil
	maxLength  int                              // of a text, in characters; 0 where the pattern bounds it
	check      func(config.Config, string) bool // what a pattern cannot express, or nil
	rule       string                           // the detail of a violation, which never quotes the value
	// For the OpenAPI document. A format names a check.
	format, description, example string
}

// maxCustomerID is the length that OpenID Connect allows for the claim sub. Incode publishes no limit.
const maxCustomerID = 255

// customFields is the only field that is not a text.
const customFields = "customFields"

// The limits of customFields. Incode publishes none.
const maxCustomFields, maxCustomName, maxCustomText = 20, 64, 256

const newSession = "Not accepted: every call starts a new session."

// contract holds every field. The last two, which have no example, are never accepted: in Incode's own request, they
// name an existing session.
var contract = []field{
	{name: "configurationId", otherNames: []string{"flowid", "workflowid"}, pattern: config.ConfigurationID,
		example: "6245f1e0c8d4b2a39e7f1c05", required: true, rule: "Must be a string of 24 lower-case hex digits.",
		description: "ID of an Incode flow or workflow that the operator allows."},
	{name: "externalCustomerId", otherNames: []string{"externalid", "customerid"}, example: "customer-42",
		maxLength: maxCustomerID, check: func(_ config.Config, text string) bool { return isCustomerID(text) },
		rule:   "Must be a string of 1 to 255 printable characters, without U+FFFD or a space at either end.",
		format: "customer-id", description: "Your ID of the customer. Leave it out unless you are a back end."},
	{name: "countryCode", otherNames: []string{"country"}, pattern: regexp.MustCompile(`^[A-Z]{2,3}$`), example: "DE",
		rule:        "Must be ALL or a country code of 2 or 3 upper-case letters.",
		description: "Country of the documents. ALL when left out."},
	{name: "language", otherNames: []string{"lang"}, pattern: regexp.MustCompile(`^[a-z]{2,3}(-([A-Z]{2}|[0-9]{3}))?$`),
		rule:    "Must be a language of 2 or 3 lower-case letters, alone or with a region, like en, en-US or es-419.",
		example: "en-US", description: "Language of the flow. Incode chooses it when it is left out."},
	// The characters of RFC 3986, but in the host only those of a DNS name. After a backslash, an @ or a percent sign,
	// browsers and Go may find different hosts. The range &-; holds the digits and ' ( ) * + , - . / : as well.
	{name: "redirectionUrl", otherNames: []string{"redirecturl", "redirecturi"}, example: "https://app.example.com/done",
		pattern:   regexp.MustCompile(`^https://[A-Za-z0-9.:-]+([/?#]([A-Za-z_~?#\[\]@!$&-;=]|%[0-9A-Fa-f]{2})*)?$`),
		maxLength: 2048, check: mayRedirect,
		rule:        "Must be an https URL of at most 2048 characters of RFC 3986, without a user name, on an allowed host.",
		description: "Where the session sends the person at the end."},
	{name: customFields, example: `{"plan":"premium","age":30,"vip":true}`,
		rule: "Must be an object of at most 20 members. A name has 1 to 64 characters. A value is a boolean, a string of " +
			"at most 256 characters, or a number of at most 15 digits without an exponent. No control characters, no U+FFFD.",
		description: "Your own data. A customer may only set the names that the operator has allowed."},
	{name: "interviewId", check: func(config.Config, string) bool { return false }, rule: newSession},
	{name: "uuid", check: func(config.Config, string) bool { return false }, rule: newSession},
}

// accepts reports whether a value follows the contract.
func (f field) accepts(c config.Config, value any) bool {
	text, ok := value.(string)
	return ok && (f.pattern == nil || f.pattern.MatchString(text)) &&
		(f.maxLength == 0 || utf8.RuneCountInString(text) <= f.maxLength) && (f.check == nil || f.check(c, text))
}

// isCustomerID accepts what identity providers use: e-mail addresses, distinguished names, letters of any script. It
// refuses control and format characters, such as those that change the direction of a text.
func isCustomerID(text string) bool {
	return text != "" && strings.TrimSpace(text) == text && hasOnly(unicode.IsPrint, text, maxCustomerID)
}

// mayRedirect reports whether a session may redirect the person to this URL.
func mayRedirect(c config.Config, text string) bool {
	u, err := url.Parse(text)
	return err == nil && c.RedirectHosts[strings.ToLower(u.Host)]
}

// violations is everything that is wrong with one body.
type violations []violation

// violation has a JSON Pointer (RFC 6901) into the body, and what is wrong there.
type violation struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func (violations) Error() string { return problem.ValidationFailed.Error() }
func (violations) Unwrap() error { return problem.ValidationFailed }

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// readFields returns the fields of a body that follows the contract, or all its violations together. Incode is sent the
// result and not the body, so that Incode and this function cannot read it in two ways: when a name occurs twice,
// encoding/json takes the last value, and it replaces invalid Unicode with U+FFFD, which every field refuses.
func readFields(c config.Config, body []byte, byCustomer bool) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var fields map[string]any // not a struct, because encoding/json matches the names of a struct in any case
	err := decoder.Decode(&fields)
	if _, end := decoder.Token(); err != nil || fields == nil || !errors.Is(end, io.EOF) {
		return nil, problem.InvalidJSON
	}
	var found violations
	for _, f := range contract {
		switch value := fields[f.name]; {
		case value == nil && f.required:
			found = append(found, violation{"/" + f.name, "Required."})
		case value == nil: // null means left out: many serializers write it
			delete(fields, f.name)
		case f.name == customFields:
			found = append(found, checkCustomFields(c, value, byCustomer, f.rule)...)
		case !f.accepts(c, value):
			found = append(found, violation{"/" + f.name, f.rule})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.ContainsFunc(contract, func(f field) bool { return f.name == name }) {
			found = append(found, violation{"/" + pointerEscaper.Replace(name), adviceOn(name)})
		}
	}
	if len(found) > 0 {
		return nil, found
	}
	fields["countryCode"] = cmp.Or[any](fields["countryCode"], "ALL")
	return fields, nil
}

// adviceOn returns the detail about a name that is not in the contract.
func adviceOn(name string) string {
	name = normalize(name)
	for _, f := range contract {
		if f.example != "" && (name == normalize(f.name) || slices.Contains(f.otherNames, name)) {
			return "Not accepted: use " + f.name + "."
		}
	}
	return "Not a field of the contract."
}

// normalize makes the names of one field equal in all styles, such as flow_id and flowId.
func normalize(name string) string { return strings.ToLower(separators.Replace(name)) }

var separators = strings.NewReplacer("_", "", "-", "")

// checkCustomFields lets a customer set only the names that the operator has allowed, because the operator may use the
// others to decide about the customer.
func checkCustomFields(c config.Config, value any, byCustomer bool, rule string) (found violations) {
	object, ok := value.(map[string]any)
	if !ok || len(object) > maxCustomFields {
		return violations{{"/" + customFields, rule}}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		pointer := "/" + customFields + "/" + pointerEscaper.Replace(name)
		switch {
		case name == "" || !hasOnly(notControl, name, maxCustomName) || !isCustomValue(object[name]):
			found = append(found, violation{pointer, rule})
		case byCustomer && object[name] != nil && !c.CustomFields[name]:
			found = append(found, violation{pointer, "Not a name that the operator of this endpoint lets customers set."})
		}
	}
	maps.DeleteFunc(object, func(_ string, value any) bool { return value == nil })
	return found
}

func isCustomValue(value any) bool {
	switch value := value.(type) {
	case bool, nil:
		return true
	case string:
		return hasOnly(notControl, value, maxCustomText)
	case json.Number:
		return exactNumber.MatchString(value.String())
	}
	return false
}

// exactNumber matches numbers that every JSON parser reads as the same value: at most 15 digits, and no exponent.
// encoding/json has checked the syntax. The digits are sent to Incode unchanged.
var exactNumber = regexp.MustCompile(`^-?([0-9]\.?){1,15}$`)

func notControl(r rune) bool { return !unicode.IsControl(r) }

// hasOnly reports whether a text has at most maxLength characters, and only allowed ones. It also refuses U+FFFD, which
// encoding/json writes in place of what is not valid Unicode.
func hasOnly(allowed func(rune) bool, text string, maxLength int) bool {
	return utf8.RuneCountInString(text) <= maxLength &&
		!strings.ContainsFunc(text, func(r rune) bool { return !allowed(r) || r == utf8.RuneError })
}
