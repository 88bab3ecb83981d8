// Package apikey loads Incode's API key from AWS Secrets Manager and keeps it in memory.
package apikey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"golang.org/x/sync/singleflight"

	"omnistart/internal/problem"
)

const (
	// loadTimeout bounds one load of the secret with the SDK's retries. Without it, the SDK waits half a minute for a
	// Secrets Manager that does not answer.
	loadTimeout = 3 * time.Second

	// coolDown is the minimum time between two loads that find the same key. Without it, a key that Incode refuses would
	// turn every request into a call to Secrets Manager.
	coolDown = 10 * time.Second
)

// Key is one version of the API key. The zero value is no key. Printing, logging or marshalling a Key, or a value that
// contains one, does not show it.
type Key struct {
	// A handle, because fmt does not follow its pointer, and because keys stay comparable. A Format method was rejected:
	// fmt does not call it for an unexported field, such as the one of Store.
	value   unique.Handle[string]
	version string
}

// NewKey returns the key with this value, which the given version of the secret contains.
func NewKey(value, version string) Key { return Key{unique.Make(value), version} }

// Reveal returns the value, for the x-api-key header and nothing else. It panics if there is no key.
func (k Key) Reveal() string { return k.value.Value() }

// Store keeps the key for the life of the process. It is safe for concurrent use.
type Store struct {
	// Secrets and SecretID name the secret. They must be set before the first call of Get, and not change afterwards.
	Secrets  *secretsmanager.Client
	SecretID string // a name or an ARN

	loads     singleflight.Group
	mu        sync.Mutex // guards the fields below
	key       Key
	unchanged time.Time // when a load last found the key that the store already had
}

// Get returns the key. refused is the key that Incode has refused, or the zero Key: Get then loads the secret again,
// unless the store already has another key or has found the same one within the last 10 seconds. The result equals
// refused when the secret has no newer version. Concurrent requests share one load and its error; the next request
// after a failed load tries again. The error is [problem.SecretUnavailable] or [problem.ServiceMisconfigured].
func (s *Store) Get(ctx context.Context, refused Key) (Key, error) {
	s.mu.Lock()
	key, age := s.key, time.Since(s.unchanged) // the age is negative when the clock was set back
	s.mu.Unlock()
	if key != (Key{}) && (key != refused || 0 <= age && age < coolDown) {
		return key, nil
	}
	// The load serves every request that waits for it, so it must not end with the first one.
	load := s.loads.DoChan("", func() (any, error) { return s.load(context.WithoutCancel(ctx)) })
	select {
	case result := <-load:
		return result.Val.(Key), result.Err
	case <-ctx.Done():
		return Key{}, fmt.Errorf("%w: %w", problem.SecretUnavailable, context.Cause(ctx))
	}
}

// load reads the version with the label AWSCURRENT, which Secrets Manager returns unless asked for another.
func (s *Store) load(ctx context.Context) (Key, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	out, err := s.Secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.SecretID})
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", problemOf(err), err)
	}
	if out.SecretString == nil || out.VersionId == nil {
		return Key{}, fmt.Errorf("%w: the secret contains binary data, not text", problem.ServiceMisconfigured)
	}
	value, err := parse(*out.SecretString)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", problem.ServiceMisconfigured, err)
	}
	key := NewKey(value, *out.VersionId)

	s.mu.Lock()
	defer s.mu.Unlock()
	if key == s.key {
		s.unchanged = time.Now().Round(0) // wall clock: the monotonic clock stops while Lambda freezes the process
	}
	s.key = key
	return key, nil
}

// permanent holds the error codes of GetSecretValue, its own and those common to all AWS APIs, that a retry does not
// change. Any other error counts as temporary.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
var permanent = []string{
	"ResourceNotFoundException", // the secret does not exist, or has no value
	"InvalidRequestException",   // the secret is scheduled for deletion
	"AccessDenied", "AccessDeniedException", "DecryptionFailure", "NotAuthorized", "OptInRequired",
	"IncompleteSignature", "InvalidClientTokenId", "InvalidSignatureException", "UnrecognizedClientException",
	"InvalidParameterException", "ValidationError", "ValidationException",
}

func problemOf(err error) *problem.Problem {
	var api interface{ ErrorCode() string } // smithy.APIError, without a dependency on its module
	if errors.As(err, &api) && slices.Contains(permanent, api.ErrorCode()) {
		return problem.ServiceMisconfigured
	}
	return problem.SecretUnavailable
}

// parse returns the key in the text of the secret: the text itself, or the string apiKey of a JSON object, which is
// what the key/value form of the AWS console writes. Its errors quote nothing of the text.
func parse(text string) (string, error) {
	key := strings.TrimSpace(text)
	// No key of Incode starts like JSON, so a quoted string or an array is a mistake.
	if strings.IndexAny(key, `{["`) == 0 {
		var object map[string]any
		_ = json.Unmarshal([]byte(key), &object) // leaves the map nil unless the text is a JSON object
		value, ok := object["apiKey"].(string)
		if !ok {
			return "", errors.New("the secret starts like JSON, but is not one JSON object with a string apiKey")
		}
		key = strings.TrimSpace(value)
	}
	switch {
	case key == "":
		return "", errors.New("the key is empty")
	case len(key) > 1024: // far above the keys of Incode that we know of, and short enough for a header
		return "", errors.New("the key is too long")
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New("the key contains characters other than visible ASCII")
	}
	return key, nil
}
