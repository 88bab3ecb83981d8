package apikey

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"omnistart/internal/tooling/leaktest"
	"omnistart/internal/tooling/secretsmanagertest"
)

const (
	name   = "incode/api-key"
	canary = "canary-0123456789abcdef"
)

// standIn serves the Secrets Manager stand-in and returns a store that reads
// it through the real SDK client, with a clock that the test moves.
func standIn(t *testing.T) (*secretsmanagertest.Server, *Store, *clock) {
	t.Helper()
	s := secretsmanagertest.New()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client := secretsmanager.New(secretsmanager.Options{
		Region:       "eu-west-1",
		BaseEndpoint: aws.String(server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
		Retryer:      aws.NopRetryer{},
	})
	store, c := NewStore(client, name), &clock{now: time.Now()}
	store.now = c.Now
	return s, store, c
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func get(t *testing.T, s *Store) Key {
	t.Helper()
	k, err := s.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func refresh(t *testing.T, s *Store, refused Key) Key {
	t.Helper()
	k, err := s.Refresh(t.Context(), refused)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyIsKeptForLife(t *testing.T) {
	secrets, store, clock := standIn(t)
	version := secrets.Put(name, canary)
	for range 3 {
		if k := get(t, store); k.Reveal() != canary || k.Version() != version {
			t.Errorf("got %q, %q", k.Reveal(), k.Version())
		}
		clock.advance(365 * 24 * time.Hour)
	}
	if n := secrets.Requests(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// getter is a Secrets Manager that answers when the test lets it. It stands in
// for the real client where the order of goroutines matters: synctest knows when
// all of them wait, which it cannot know of a network.
type getter func() (*secretsmanager.GetSecretValueOutput, error)

func (g getter) GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return g()
}

func TestManyAtOnceMakeOneCall(t *testing.T) {
	failed := errors.New("failed")
	tests := []struct {
		name string
		do   func(context.Context, *Store) (Key, error)
		err  error
	}{
		{"first load", func(ctx context.Context, s *Store) (Key, error) { return s.Get(ctx) }, nil},
		{"first load fails", func(ctx context.Context, s *Store) (Key, error) { return s.Get(ctx) }, failed},
		{"refused key", func(ctx context.Context, s *Store) (Key, error) { return s.Refresh(ctx, Key{}) }, nil},
		{"refused key, load fails", func(ctx context.Context, s *Store) (Key, error) { return s.Refresh(ctx, Key{}) }, failed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls, open := 0, make(chan struct{})
				store := NewStore(getter(func() (*secretsmanager.GetSecretValueOutput, error) {
					calls++
					<-open
					return &secretsmanager.GetSecretValueOutput{SecretString: aws.String(canary), VersionId: aws.String("v1")}, tt.err
				}), name)
				for range 50 {
					go func() {
						if k, err := tt.do(t.Context(), store); !errors.Is(err, tt.err) || err == nil && k.Reveal() != canary {
							t.Errorf("got %v, %v", k, err)
						}
					}()
				}
				synctest.Wait() // all fifty wait for the one call
				close(open)
				synctest.Wait()
				if calls != 1 {
					t.Errorf("%d calls, want 1", calls)
				}
			})
		})
	}
}

func TestFailedLoadIsTriedAgainByTheNextRequest(t *testing.T) {
	secrets, store, _ := standIn(t)
	secrets.Put(name, canary)
	secrets.Fail("ThrottlingException", 400)
	if _, err := store.Get(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	secrets.Recover()
	if k := get(t, store); k.Reveal() != canary {
		t.Errorf("got %q", k.Reveal())
	}
}

func TestRotation(t *testing.T) {
	secrets, store, clock := standIn(t)
	secrets.Put(name, "first")
	first := get(t, store)

	if k := refresh(t, store, first); k != first {
		t.Errorf("nothing has changed, but the key has: %v", k.Version())
	}
	if k := refresh(t, store, first); k != first || secrets.Requests() != 2 {
		t.Errorf("at the same instant: version %s after %d requests, want the first after 2", k.Version(), secrets.Requests())
	}
	secrets.Put(name, "second")
	clock.advance(10*time.Second - time.Nanosecond)
	if k := refresh(t, store, first); k != first || secrets.Requests() != 2 {
		t.Errorf("within the cool-down: version %s after %d requests, want the first after 2", k.Version(), secrets.Requests())
	}
	clock.advance(time.Nanosecond)
	second := refresh(t, store, first)
	if second.Reveal() != "second" || secrets.Requests() != 3 {
		t.Errorf("after the cool-down: %q after %d requests, want the second after 3", second.Reveal(), secrets.Requests())
	}
	// A request that still carried the first key needs no load of its own.
	if k := refresh(t, store, first); k != second || secrets.Requests() != 3 {
		t.Errorf("late refusal: %q after %d requests", k.Reveal(), secrets.Requests())
	}
	// A change begins no cool-down: the next one is seen at once.
	secrets.Put(name, "third")
	if k := refresh(t, store, second); k.Reveal() != "third" {
		t.Errorf("second rotation: %q", k.Reveal())
	}
	if k := get(t, store); k.Reveal() != "third" {
		t.Errorf("Get after the rotations: %q", k.Reveal())
	}
}

func TestClockThatWentBackEndsTheCoolDown(t *testing.T) {
	secrets, store, clock := standIn(t)
	secrets.Put(name, "first")
	first := refresh(t, store, get(t, store))
	secrets.Put(name, "second")
	clock.advance(-time.Hour)
	if k := refresh(t, store, first); k.Reveal() != "second" {
		t.Errorf("got %q", k.Reveal())
	}
}

// TestCoolDownIsTimedByTheWallClock looks for a monotonic reading, which stands
// still while Lambda has the process frozen.
func TestCoolDownIsTimedByTheWallClock(t *testing.T) {
	secrets, store, _ := standIn(t)
	secrets.Put(name, canary)
	if refresh(t, store, get(t, store)); store.unchanged.IsZero() || strings.Contains(store.unchanged.String(), " m=") {
		t.Errorf("%v has a monotonic reading", store.unchanged)
	}
}

func TestFailedRefreshKeepsTheKey(t *testing.T) {
	secrets, store, _ := standIn(t)
	secrets.Put(name, "first")
	first := get(t, store)
	secrets.Fail("InternalServiceError", 500)
	if _, err := store.Refresh(t.Context(), first); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if k := get(t, store); k != first {
		t.Errorf("the key is gone: %v", k.Version())
	}
	// No cool-down after a failure.
	secrets.Recover()
	secrets.Put(name, "second")
	if k := refresh(t, store, first); k.Reveal() != "second" {
		t.Errorf("got %q", k.Reveal())
	}
}

func TestOneRequestEndsAndTheLoadGoesOn(t *testing.T) {
	secrets, store, _ := standIn(t)
	secrets.Put(name, canary)
	release := secrets.Hold()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Get(ctx); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) || err.Error() != "the secret is unavailable: context canceled" {
		t.Errorf("got %v", err)
	}
	release()
	if k := get(t, store); k.Reveal() != canary || secrets.Requests() > 1 {
		t.Errorf("got %q after %d requests", k.Reveal(), secrets.Requests())
	}
}

func TestFaultsOfSecretsManager(t *testing.T) {
	tests := []struct {
		code   string
		status int
		want   error
	}{
		{"ResourceNotFoundException", 400, ErrMisconfigured},
		{"AccessDeniedException", 400, ErrMisconfigured},
		{"DecryptionFailure", 400, ErrMisconfigured},
		{"InvalidRequestException", 400, ErrMisconfigured}, // marked for deletion
		{"UnrecognizedClientException", 400, ErrMisconfigured},
		{"ThrottlingException", 400, ErrUnavailable},
		{"InternalServiceError", 500, ErrUnavailable},
		{"ServiceUnavailable", 503, ErrUnavailable},
		{"ExpiredTokenException", 400, ErrUnavailable}, // Lambda replaces the credentials
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			secrets, store, _ := standIn(t)
			secrets.Put(name, canary)
			secrets.Fail(tt.code, tt.status)
			if _, err := store.Get(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("created by the stack, value not yet set", func(t *testing.T) {
		secrets, store, _ := standIn(t)
		secrets.Create(name)
		if _, err := store.Get(t.Context()); !errors.Is(err, ErrMisconfigured) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("text that is no key", func(t *testing.T) {
		for text, want := range map[string]string{
			"a b": "the secret is misconfigured: the key holds characters other than visible ASCII",
			"{":   "the secret is misconfigured: it begins like JSON: not one JSON object and nothing else",
			"{}":  "the secret is misconfigured: the JSON object has no string apiKey",
		} {
			secrets, store, _ := standIn(t)
			secrets.Put(name, text)
			if _, err := store.Get(t.Context()); !errors.Is(err, ErrMisconfigured) || err.Error() != want {
				t.Errorf("%q: got %v", text, err)
			}
		}
	})
	t.Run("binary", func(t *testing.T) {
		secrets, store, _ := standIn(t)
		secrets.PutBinary(name, []byte(canary))
		if _, err := store.Get(t.Context()); !errors.Is(err, ErrMisconfigured) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("out of reach", func(t *testing.T) {
		store := NewStore(secretsmanager.New(secretsmanager.Options{
			Region:       "eu-west-1",
			BaseEndpoint: aws.String("http://127.0.0.1:1"),
			Credentials:  credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
			Retryer:      aws.NopRetryer{},
		}), name)
		if _, err := store.Get(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestParse(t *testing.T) {
	tests := []struct {
		name, text, want string // want "": refused
	}{
		{"the key itself", canary, canary},
		{"a line feed from an editor", "\n " + canary + "\r\n", canary},
		{"the console's key/value form", `{"apiKey":"` + canary + `"}`, canary},
		{"white space in both places", " {\"apiKey\" : \" " + canary + "\\n\" , \"other\": 1}\n", canary},
		{"first and last of visible ASCII", "!~", "!~"},
		{"1024", strings.Repeat("a", 1024), strings.Repeat("a", 1024)},
		{"1025", strings.Repeat("a", 1025), ""},
		{"empty", "", ""},
		{"white space only", " \n", ""},
		{"empty object", "{}", ""},
		{"key under another name", `{"api_key":"` + canary + `"}`, ""},
		{"name in another case", `{"apikey":"` + canary + `"}`, ""},
		{"number", `{"apiKey":1}`, ""},
		{"empty string", `{"apiKey":""}`, ""},
		{"broken JSON", `{"apiKey":"` + canary, ""},
		{"two keys", `{"apiKey":"a","apiKey":"` + canary + `"}`, ""},
		{"JSON string", `"` + canary + `"`, ""},
		{"JSON array", `["` + canary + `"]`, ""},
		{"line feed inside would split the header", "a\nb", ""},
		{"space inside", "a b", ""},
		{"beyond ASCII", "schlüssel", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(tt.text)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the error holds the key: %v", err)
			}
		})
	}
}

func TestKeyIsNeverShown(t *testing.T) {
	key := NewKey(canary, "v1")
	for _, v := range []any{
		key, &key, []Key{key}, struct{ K Key }{key}, struct{ k Key }{key}, map[string]any{"k": key}, map[Key]bool{key: true},
		&Store{key: key, loading: &load{key: key}}, load{key: key}, &load{key: key},
	} {
		leaktest.Check(t, v, canary)
	}
}
