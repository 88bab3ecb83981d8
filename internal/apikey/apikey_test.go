package apikey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"omnistart/internal/problem"
	"omnistart/internal/tooling/secretsmanagertest"
)

const (
	secretID = "incode/api-key"
	canary   = "canary-0123456789abcdef"
	maxAge   = 5 * time.Minute
)

// newStore returns a store that reads the stand-in for Secrets Manager through the SDK. It needs no socket, so it works
// with the clock of package synctest.
func newStore(changes ...func(*secretsmanager.Options)) (*secretsmanagertest.Server, *Store) {
	server := secretsmanagertest.New()
	inProcess := func(r *http.Request) (response *http.Response, err error) {
		defer func() {
			if reason := recover(); reason != nil { // the stand-in closes the connection
				err = fmt.Errorf("%v: %w", reason, r.Context().Err())
			}
		}()
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		return w.Result(), nil
	}
	options := secretsmanager.Options{
		Region:      "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
		HTTPClient:  smithyhttp.ClientDoFunc(inProcess),
		Retryer:     aws.NopRetryer{},
	}
	for _, change := range changes {
		change(&options)
	}
	return server, &Store{
		Secrets: secretsmanager.New(options), SecretID: secretID, MaxAge: maxAge, Log: slog.New(slog.DiscardHandler),
	}
}

// get returns the key. It fails the test if there is none, or if the total number of requests is another one.
func get(t *testing.T, server *secretsmanagertest.Server, store *Store, refused Key, requests int) Key {
	t.Helper()
	key, err := store.Get(t.Context(), refused)
	if err != nil {
		t.Fatal(err)
	}
	if n := server.Requests(); n != requests {
		t.Errorf("%d requests, want %d", n, requests)
	}
	return key
}

func TestKeyIsLoadedOnce(t *testing.T) {
	server, store := newStore()
	version := server.Put(secretID, canary)
	for _, refused := range []Key{NewKey("another", "v0"), {}, {}} {
		if key := get(t, server, store, refused, 1); key != NewKey(canary, version) || key.Version() != version {
			t.Errorf("got %q of version %s", key.Reveal(), key.Version())
		}
	}
	if version := (Key{}).Version(); version != "" {
		t.Errorf("no key has the version %s", version)
	}
}

func TestConcurrentRequestsShareOneLoadAndItsError(t *testing.T) {
	for _, want := range []error{nil, problem.SecretUnavailable} {
		inBubble(t, func(t *testing.T) {
			server, store := newStore()
			server.Put(secretID, canary)
			if want != nil {
				server.Fail("ThrottlingException", 400)
			}
			release := server.Hold()
			for range 50 {
				go func() {
					key, err := store.Get(t.Context(), Key{})
					if !errors.Is(err, want) || err == nil && key.Reveal() != canary {
						t.Errorf("got %v, want %v", err, want)
					}
				}()
			}
			synctest.Wait() // until all wait for the load
			release()
			synctest.Wait()
			if n := server.Requests(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
			server.Recover()
			if want != nil { // the next request tries again
				get(t, server, store, Key{}, 2)
			}
		})
	}
}

// TestErrorIsThatOfTheLoadThatWasWaitedFor has calls that begin the next load while others have yet to read the error
// of the last one.
func TestErrorIsThatOfTheLoadThatWasWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		server, store := newStore()
		server.PutBinary(secretID, []byte(canary))
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				for range 200 {
					if _, err := store.Get(t.Context(), Key{}); !errors.Is(err, problem.ServiceMisconfigured) {
						t.Errorf("got %v, want %v", err, problem.ServiceMisconfigured)
						return
					}
				}
			})
		}
		calls.Wait()
	})
}

func TestRefusedKeyIsReplacedByANewerVersion(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		server, store := newStore()
		server.Put(secretID, "first")
		first := get(t, server, store, Key{}, 1)
		if key := get(t, server, store, first, 2); key != first {
			t.Errorf("without a newer version: %q", key.Reveal())
		}
		server.Put(secretID, "second")
		for _, wait := range []time.Duration{0, 10*time.Second - 1} {
			time.Sleep(wait)
			if key := get(t, server, store, first, 2); key != first {
				t.Errorf("within the cool-down: %q", key.Reveal())
			}
		}
		time.Sleep(time.Nanosecond)
		second := get(t, server, store, first, 3)
		if second.Reveal() != "second" {
			t.Errorf("after the cool-down: %q", second.Reveal())
		}
		if key := get(t, server, store, first, 3); key != second {
			t.Errorf("another request with the first key: %q", key.Reveal())
		}
		server.Put(secretID, "third") // the load that found the second key began no cool-down
		if key := get(t, server, store, second, 4); key.Reveal() != "third" {
			t.Errorf("the next rotation: %q", key.Reveal())
		}
		if key := get(t, server, store, Key{}, 4); key.Reveal() != "third" {
			t.Errorf("without a refused key: %q", key.Reveal())
		}
	})
}

func TestSameValueUnderANewVersionIsNoNewKey(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		server, store := newStore()
		server.Put(secretID, "first")
		first := get(t, server, store, Key{}, 1)
		version := server.Put(secretID, "first")
		if key := get(t, server, store, first, 2); !key.Equal(first) || key.Version() != version {
			t.Errorf("got %q of version %s", key.Reveal(), key.Version())
		}
		server.Put(secretID, "second")
		if key := get(t, server, store, first, 2); !key.Equal(first) {
			t.Errorf("within the cool-down: %q", key.Reveal())
		}
	})
}

// TestLoadThatBeganBeforeTheRefusalIsNotEnough has an old key loaded again in the background. That load finds the old
// key. Then the new key is stored and the old one revoked, both before the load ends.
func TestLoadThatBeganBeforeTheRefusalIsNotEnough(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		path := &slowPath{}
		server, store := newStore(path.delay)
		server.Put(secretID, "first")
		first := get(t, server, store, Key{}, 1)
		time.Sleep(maxAge)
		path.set(time.Second)
		get(t, server, store, Key{}, 1)
		synctest.Wait() // until the response of Secrets Manager is on its way
		server.Put(secretID, "second")
		path.set(100 * time.Millisecond)
		for range 8 {
			go func() {
				if key, err := store.Get(t.Context(), first); err != nil || key.Reveal() != "second" {
					t.Errorf("got %v, %v", key, err)
				}
			}()
		}
		time.Sleep(time.Minute)
		if key := get(t, server, store, Key{}, 3); key.Reveal() != "second" { // the older response came last
			t.Errorf("got %q", key.Reveal())
		}
	})
}

func TestOldKeyThatIsFoundAgainBeginsNoCoolDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		server, store := newStore()
		server.Put(secretID, "first")
		first := get(t, server, store, Key{}, 1)
		time.Sleep(2 * maxAge)
		get(t, server, store, Key{}, 2)
		server.Put(secretID, "second")
		if key := get(t, server, store, first, 3); key.Reveal() != "second" {
			t.Errorf("got %q", key.Reveal())
		}
	})
}

func TestFailedLoadOfARefusedKeyBeginsNoCoolDown(t *testing.T) {
	server, store := newStore()
	server.Put(secretID, "first")
	first := get(t, server, store, Key{}, 1)
	server.Fail("InternalServiceError", 500)
	for requests := range 3 {
		if key := get(t, server, store, first, 2+requests); key != first {
			t.Errorf("got %q", key.Reveal())
		}
	}
	if key := get(t, server, store, Key{}, 4); key != first {
		t.Errorf("without a refused key: %q", key.Reveal())
	}
	server.Recover()
	server.Put(secretID, "second")
	if key := get(t, server, store, first, 5); key.Reveal() != "second" {
		t.Errorf("got %q", key.Reveal())
	}
}

func TestLoadContinuesWhenTheFirstRequestEnds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		server, store := newStore()
		server.Put(secretID, canary)
		release := server.Hold()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := store.Get(ctx, Key{})
		if !errors.Is(err, problem.SecretUnavailable) || !strings.Contains(err.Error(), "has not ended") {
			t.Errorf("got %v", err)
		}
		time.AfterFunc(time.Second, release)
		if key := get(t, server, store, Key{}, 1); key.Reveal() != canary {
			t.Errorf("got %q", key.Reveal())
		}
	})
}

func TestLoadEndsAfterThreeSeconds(t *testing.T) {
	for name, begin := range map[string]func(*secretsmanagertest.Server){
		"no response": func(server *secretsmanagertest.Server) { server.Hold() },
		"retries":     func(server *secretsmanagertest.Server) { server.Fail("ThrottlingException", 400) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				server, store := newStore(func(o *secretsmanager.Options) { o.Retryer, o.RetryMaxAttempts = nil, 100 })
				begin(server)
				start := time.Now()
				_, err := store.Get(t.Context(), Key{})
				if waited := time.Since(start); !errors.Is(err, problem.SecretUnavailable) || waited != 3*time.Second {
					t.Errorf("got %v after %v", err, waited)
				}
			})
		})
	}
}
