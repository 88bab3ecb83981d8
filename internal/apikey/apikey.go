// Package apikey loads Incode's API key from AWS Secrets Manager and keeps it in memory.
package apikey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"omnistart/internal/problem"
)

const (
	// loadTimeout bounds one load of the secret with the SDK's retries. Without it, the SDK waits half a minute for a
	// Secrets Manager that does not answer.
	loadTimeout = 3 * time.Second

	// coolDown is the minimum time between two loads that find the refused key again. It is also the minimum time, unless
	// MaxAge is shorter, between two loads that fail while the key is old. Without it, each request would call Secrets
	// Manager.
	coolDown = 10 * time.Second

	// staleWait is how long a request waits for a load when the key is older than twice the maximum age.
	staleWait = 300 * time.Millisecond
)

// Key is one version of the API key. The zero value is no key. Printing, logging or marshalling a Key, or a value that
// contains one, does not show it.
type Key struct {
	// A handle, because fmt does not follow its pointer. A Format method was rejected: fmt does not call it for an
	// unexported field, such as the one of Store.
	value   unique.Handle[string]
	version string
}

// NewKey returns the key with this value, which the given version of the secret contains.
func NewKey(value, version string) Key { return Key{unique.Make(value), version} }

// Reveal returns the value, for the x-api-key header and nothing else. It panics if there is no key.
func (k Key) Reveal() string { return k.value.Value() }

// Version returns the ID of the secret's version, or "" if there is no key.
func (k Key) Version() string { return k.version }

// Equal reports whether both keys have the same value, whatever their versions.
func (k Key) Equal(other Key) bool { return k.value == other.value }

// Store keeps the key in memory and loads it again when it is old or refused. It is safe for concurrent use.
type Store struct {
	// The exported fields must be set before the first call of Get, and not change afterwards.
	Secrets  *secretsmanager.Client
	SecretID string        // a name or an ARN
	MaxAge   time.Duration // of the key; when it is older, a call of Get has it loaded again
	Log      *slog.Logger

	// Loads and Failures count the loads that have ended, and those of them that failed. The caller may reset them.
	Loads, Failures atomic.Int64

	mu        sync.Mutex // guards the fields below and those of loading
	key       Key
	read      time.Time // when the load of the key began
	confirmed time.Time // when the last load that found the refused key again began
	began     time.Time // when the last load began
	refused   Key       // the refused key that the last load was for, if any
	loading   *load     // the load in progress, or nil
}

// load is one load of the secret. It keeps its own error, because the next load may begin before the calls that wait
// for this one go on.
type load struct {
	ended chan struct{} // closed at the end
	err   error         // SecretUnavailable until the load ends, or if another one replaces it
}

// Get returns the key. refused is the key that Incode has refused, as an earlier call of Get returned it, or the zero
// Key.
//
// Get waits for a load when there is no key, or when the key is the refused one. That load begins after a refusal, so
// it finds a key that was stored before the refused one was revoked. When it finds the refused key again, the next such
// load begins 10 seconds later at the earliest.
//
// A key older than MaxAge is loaded again in the background. When the key is older than twice MaxAge, as after the
// process was frozen, Get waits for that load, but only during its first 300 ms. Concurrent calls share one load. When
// a load fails, Get returns the key in memory.
//
// The result equals refused when the secret has no newer key. Get returns an error only when there has never been a
// key: [problem.SecretUnavailable] or [problem.ServiceMisconfigured].
func (s *Store) Get(ctx context.Context, refused Key) (Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := wallClock()
	age, sinceLoad := now.Sub(s.read), now.Sub(s.began)
	inProgress := s.loading != nil && within(loadTimeout, sinceLoad) // a load that was frozen past its timeout failed
	required := (s.key == (Key{}) || s.key.Equal(refused)) && !within(coolDown, now.Sub(s.confirmed))
	due := !within(s.MaxAge, age) && !within(min(s.MaxAge, coolDown), sinceLoad)
	if !inProgress && (required || due) || required && !s.refused.Equal(refused) {
		notEnded := fmt.Errorf("%w: the load of the secret has not ended", problem.SecretUnavailable)
		s.began, s.refused, s.loading = now, refused, &load{make(chan struct{}), notEnded}
		// The load serves every call that waits for it, so it must not end with the first one.
		go s.run(context.WithoutCancel(ctx), s.loading, now)
	}
	current := s.loading
	if current != nil && (required || !within(2*s.MaxAge, age)) {
		var limit <-chan time.Time // none
		if !required {
			limit = time.After(staleWait - now.Sub(s.began))
		}
		s.mu.Unlock()
		select {
		case <-current.ended:
		case <-limit:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
	if s.key == (Key{}) {
		return Key{}, current.err // without a key, every call waits for a load
	}
	return s.key, nil
}

// wallClock returns the time without its monotonic reading, which stops while Lambda freezes the process.
func wallClock() time.Time { return time.Now().Round(0) }

// within reports whether less than limit has passed. A negative time means that the clock was set back.
func within(limit, passed time.Duration) bool { return 0 <= passed && passed < limit }

func (s *Store) run(ctx context.Context, current *load, began time.Time) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	key, err := s.fetch(ctx)
	if err == nil && wallClock().Sub(began) >= loadTimeout {
		err = fmt.Errorf("%w: the load took too long, as in a process that was frozen", problem.SecretUnavailable)
	}
	s.Loads.Add(1)
	if err != nil {
		s.Failures.Add(1)
		s.Log.WarnContext(ctx, "the API key was not loaded; a key in memory stays in use", "error", err.Error())
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(current.ended)
	if s.loading != current {
		return // another load has begun, because this one took too long or a key was refused
	}
	s.loading, current.err = nil, err
	if err == nil {
		s.key, s.read = key, began
		if key.Equal(s.refused) {
			s.confirmed = began
		}
	}
}

// fetch reads the version with the label AWSCURRENT, which Secrets Manager returns unless asked for another.
func (s *Store) fetch(ctx context.Context) (Key, error) {
	out, err := s.Secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.SecretID})
	switch {
	case err != nil:
		return Key{}, fmt.Errorf("%w: %s", problemOf(err), Excerpt(err.Error()))
	case out.SecretBinary != nil:
		return Key{}, fmt.Errorf("%w: the secret contains binary data, not text", problem.ServiceMisconfigured)
	// Secrets Manager's own version IDs have 32 to 64 characters. The log shows them.
	case out.SecretString == nil || out.VersionId == nil || len(*out.VersionId) > 64:
		return Key{}, fmt.Errorf("%w: the response contains no secret", problem.SecretUnavailable)
	}
	value, err := parse(*out.SecretString)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", problem.ServiceMisconfigured, err)
	}
	return NewKey(value, *out.VersionId), nil
}

// unprintable matches what Excerpt replaces. In a JSON log, such a character needs up to 6 bytes.
var unprintable = regexp.MustCompile(`[^ -~]`)

// Excerpt returns what may be logged of a text from AWS or its SDK, which may have any length: the first 600
// characters, with a space in place of each that is not printable ASCII.
func Excerpt(s string) string { return unprintable.ReplaceAllString(fmt.Sprintf("%.600s", s), " ") }

// permanent holds the error codes that a retry does not change: those of GetSecretValue itself, and those common to
// all AWS APIs. Any other error counts as temporary.
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

// parse returns the key in the text of the secret: the text itself, or a string in a JSON object, as the key/value form
// of the AWS console writes it. In an object of several members, the key is the member apiKey. A single member may have
// any name. The error does not quote the text.
func parse(text string) (string, error) {
	key := strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")) // some editors write a byte order mark
	// No key of Incode starts like JSON, so a quoted string or an array is a mistake.
	if strings.IndexAny(key, `{["`) == 0 {
		var object map[string]any
		_ = json.Unmarshal([]byte(key), &object) // leaves the map nil unless the text is a JSON object
		value := object["apiKey"]
		if len(object) == 1 {
			value = slices.Collect(maps.Values(object))[0]
		}
		key, _ = value.(string)
		key = strings.TrimSpace(key)
	}
	// 1024 is far above the keys of Incode that we know of, and short enough for a header.
	if key == "" || len(key) > 1024 || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("the secret is neither a key of 1 to 1024 visible ASCII characters, " +
			"nor a JSON object with such a key as apiKey or as its only member")
	}
	return key, nil
}
