// Package apikey keeps Incode's API key, which lives in AWS Secrets Manager.
package apikey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"omnistart/internal/strictjson"
)

const (
	// LoadTimeout bounds one load of the secret, the SDK's retries included.
	// Left alone, the SDK waits for a mute endpoint for half a minute.
	LoadTimeout = 3 * time.Second

	// coolDown is the least time between two loads that find the same version:
	// a key that Incode refuses must not turn every request into a call to
	// Secrets Manager. It is also the longest that a rotation can go unseen, if a
	// refusal with another reason came just before: so the old key should outlive
	// the new one's arrival by this and a load.
	coolDown = 10 * time.Second

	// maxLength is far above any key of Incode's that we know of, and small enough
	// for a header.
	maxLength = 1024
)

var (
	// ErrUnavailable means that the secret may be readable later: Secrets
	// Manager was slow, throttled, out of order or out of reach.
	ErrUnavailable = errors.New("the secret is unavailable")
	// ErrMisconfigured means that the secret is missing, forbidden or unusable
	// until somebody changes it or the permissions on it.
	ErrMisconfigured = errors.New("the secret is misconfigured")
)

// Key is one version of the API key. The zero value is no key. Printing,
// logging or marshalling a Key, or what holds one, shows none of it.
type Key struct {
	// A handle, since fmt follows no pointer to a string, and keys stay comparable.
	// A Format method would not do: fmt asks none of an unexported field, such as
	// Store's.
	value   unique.Handle[string]
	version string
}

// NewKey makes a key of a value and the ID of the secret's version that holds it.
func NewKey(value, version string) Key { return Key{unique.Make(value), version} }

// Reveal returns the key itself, for the header that carries it and nothing
// else. It panics if there is none.
func (k Key) Reveal() string { return k.value.Value() }

// Version returns the ID of the secret's version.
func (k Key) Version() string { return k.version }

// A SecretGetter reads a secret. [*secretsmanager.Client] is one.
type SecretGetter interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// Store holds the key for the life of the process. It loads the key on first
// use and again when told that Incode refused it; there is no expiry, since
// only Incode knows when a key stops working. Use [NewStore]. A Store is safe
// for concurrent use.
type Store struct {
	secrets  SecretGetter
	secretID string
	now      func() time.Time

	mu      sync.Mutex // guards what follows, and is not held during a load
	key     Key
	loading *load // nil when no load is under way
	// When a reload last found the same version. Round(0) drops the monotonic
	// reading, which stands still while Lambda freezes the process.
	unchanged time.Time
}

// load is one call to Secrets Manager that any number of requests wait for.
type load struct {
	done chan struct{} // closed once key and err are set
	key  Key
	err  error
}

// NewStore returns a store for the secret with this name or ARN. It does not
// load it.
func NewStore(secrets SecretGetter, secretID string) *Store {
	return &Store{secrets: secrets, secretID: secretID, now: time.Now}
}

// Get returns the key. Requests that come while it is being loaded share one
// call, and its error; the request after a failed load tries again. The error
// wraps [ErrUnavailable] or [ErrMisconfigured].
func (s *Store) Get(ctx context.Context) (Key, error) {
	s.mu.Lock()
	if s.key != (Key{}) {
		defer s.mu.Unlock()
		return s.key, nil
	}
	l := s.join(ctx)
	s.mu.Unlock()
	return l.wait(ctx)
}

// Refresh returns the key to use after Incode refused the given one. It is the
// same key when the secret has no newer version, or when that was found out
// within the cool-down. Requests share one load as they do in [Store.Get].
func (s *Store) Refresh(ctx context.Context, refused Key) (Key, error) {
	s.mu.Lock()
	if s.key.version != refused.version {
		defer s.mu.Unlock()
		return s.key, nil // another request has refreshed it already
	}
	if age := s.now().Sub(s.unchanged); 0 <= age && age < coolDown {
		defer s.mu.Unlock()
		return s.key, nil
	}
	l := s.join(ctx)
	s.mu.Unlock()
	return l.wait(ctx)
}

// join returns the load under way, or begins one. The caller holds s.mu.
func (s *Store) join(ctx context.Context) *load {
	if s.loading == nil {
		s.loading = &load{done: make(chan struct{})}
		// The load serves every request that joins, so the end of the first one
		// must not end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), LoadTimeout)
		go func(l *load) {
			defer cancel()
			l.key, l.err = s.fetch(ctx)

			s.mu.Lock()
			defer s.mu.Unlock()
			defer close(l.done)
			s.loading = nil
			if l.err != nil {
				return
			}
			if l.key.version == s.key.version {
				s.unchanged = s.now().Round(0)
			}
			s.key = l.key
		}(s.loading)
	}
	return s.loading
}

func (l *load) wait(ctx context.Context) (Key, error) {
	select {
	case <-l.done:
		return l.key, l.err
	case <-ctx.Done():
		return Key{}, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// fetch reads the version that is AWSCURRENT, which is the one that Secrets
// Manager returns when it is asked for none by name.
func (s *Store) fetch(ctx context.Context) (Key, error) {
	out, err := s.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.secretID})
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", kind(err), err)
	}
	if out.SecretString == nil || out.VersionId == nil {
		return Key{}, fmt.Errorf("%w: it holds binary data, not text", ErrMisconfigured)
	}
	value, err := parse(*out.SecretString)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrMisconfigured, err)
	}
	return NewKey(value, *out.VersionId), nil
}

// permanent lists the error codes of GetSecretValue, its own and those common
// to all AWS APIs, that no repetition cures. Any other code counts as passing,
// as does an error that is no answer at all.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
var permanent = []string{
	"AccessDenied",
	"AccessDeniedException",
	"DecryptionFailure",
	"IncompleteSignature",
	"InvalidClientTokenId",
	"InvalidParameterException",
	"InvalidRequestException", // the secret is marked for deletion
	"InvalidSignatureException",
	"NotAuthorized",
	"OptInRequired",
	"ResourceNotFoundException", // no such secret, or one without a value
	"UnrecognizedClientException",
	"ValidationError",
	"ValidationException",
}

func kind(err error) error {
	var api interface{ ErrorCode() string } // smithy.APIError, without its module
	if errors.As(err, &api) && slices.Contains(permanent, api.ErrorCode()) {
		return ErrMisconfigured
	}
	return ErrUnavailable
}

// parse takes the key out of the secret's text: the key itself, or a JSON
// object with a string apiKey, which is what the console's key/value form
// writes. Its errors hold nothing of the text.
func parse(text string) (string, error) {
	key := strings.TrimSpace(text)
	// No key begins like JSON; a quoted string or an array is a slip of whoever
	// stored it.
	if strings.HasPrefix(key, "{") || strings.HasPrefix(key, "[") || strings.HasPrefix(key, `"`) {
		object, err := strictjson.Object([]byte(key))
		if err != nil {
			return "", fmt.Errorf("it begins like JSON: %w", err)
		}
		value, ok := object["apiKey"].(string)
		if !ok {
			return "", errors.New("the JSON object has no string apiKey")
		}
		key = strings.TrimSpace(value)
	}
	switch {
	case key == "":
		return "", errors.New("the key is empty")
	case len(key) > maxLength:
		return "", errors.New("the key is too long")
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New("the key holds characters other than visible ASCII")
	}
	return key, nil
}
