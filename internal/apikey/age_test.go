package apikey

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"omnistart/internal/tooling/secretsmanagertest"
)

// slowPath delays the responses of Secrets Manager. Like a process that is frozen, it ends no request at its timeout.
type slowPath struct{ nanoseconds atomic.Int64 }

func (n *slowPath) set(delay time.Duration) { n.nanoseconds.Store(int64(delay)) }

// delay is a change for newStore.
func (n *slowPath) delay(o *secretsmanager.Options) {
	client := o.HTTPClient
	o.HTTPClient = smithyhttp.ClientDoFunc(func(r *http.Request) (*http.Response, error) {
		response, err := client.Do(r)
		time.Sleep(time.Duration(n.nanoseconds.Load()))
		return response, err
	})
}

// inBubble runs a test in a bubble of package synctest, which must not end before the loads in it.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(2 * loadTimeout)
		f(t)
	})
}

// newSlowStore returns a store that has loaded the key "first", and the path that can delay its next loads.
func newSlowStore(t *testing.T) (*slowPath, *secretsmanagertest.Server, *Store) {
	t.Helper()
	path := &slowPath{}
	server, store := newStore(path.delay)
	server.Put(secretID, "first")
	get(t, server, store, Key{}, 1)
	return path, server, store
}

// checkKey calls Get, and compares the key and how long Get waited for it.
func checkKey(t *testing.T, store *Store, want string, wait time.Duration) {
	t.Helper()
	began := time.Now()
	key, err := store.Get(t.Context(), Key{})
	if err != nil {
		t.Error(err)
		return
	}
	if waited := time.Since(began); key.Reveal() != want || waited != wait {
		t.Errorf("got %q after %v, want %q after %v", key.Reveal(), waited, want, wait)
	}
}

// checkRequests waits until every load has ended or waits itself, and compares the number of requests.
func checkRequests(t *testing.T, server *secretsmanagertest.Server, want int) {
	t.Helper()
	synctest.Wait()
	if n := server.Requests(); n != want {
		t.Errorf("%d requests, want %d", n, want)
	}
}

func TestOldKeyIsLoadedAgainInTheBackground(t *testing.T) {
	for name, next := range map[string]string{"newer key": "second", "same key": "first"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				path, server, store := newSlowStore(t)
				server.Put(secretID, next)
				time.Sleep(maxAge - 1)
				checkKey(t, store, "first", 0)
				checkRequests(t, server, 1)

				time.Sleep(time.Nanosecond)
				path.set(2 * time.Second) // longer than a call would wait for a key that is older
				for range 64 {
					go checkKey(t, store, "first", 0)
				}
				checkRequests(t, server, 2)
				time.Sleep(time.Second)
				checkKey(t, store, "first", 0)
				time.Sleep(time.Second)
				synctest.Wait()
				checkKey(t, store, next, 0)

				time.Sleep(maxAge - 2*time.Second - 1) // the age counts from the beginning of the load
				checkKey(t, store, next, 0)
				checkRequests(t, server, 2)
				time.Sleep(time.Nanosecond)
				checkKey(t, store, next, 0)
				checkRequests(t, server, 3)
				time.Sleep(time.Minute)
				if loads, failures := store.Loads.Load(), store.Failures.Load(); loads != 3 || failures != 0 {
					t.Errorf("counted %d loads, %d of them failed", loads, failures)
				}
			})
		})
	}
}

func TestKeyOlderThanTwiceTheMaximumAgeIsWaitedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		delay, wait time.Duration
		want        string
	}{
		"fast":     {0, 0, "second"},
		"slow":     {299 * time.Millisecond, 299 * time.Millisecond, "second"},
		"too slow": {301 * time.Millisecond, 300 * time.Millisecond, "first"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				path, server, store := newSlowStore(t)
				server.Put(secretID, "second")
				time.Sleep(2 * maxAge)
				path.set(tt.delay)
				for range 64 {
					go checkKey(t, store, tt.want, tt.wait)
				}
				time.Sleep(tt.wait + time.Millisecond)
				synctest.Wait()
				checkKey(t, store, "second", 0)
				checkRequests(t, server, 2)
			})
		})
	}
	t.Run("one nanosecond younger", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			path, server, store := newSlowStore(t)
			server.Put(secretID, "second")
			time.Sleep(2*maxAge - 1)
			path.set(time.Millisecond)
			checkKey(t, store, "first", 0)
		})
	})
}

// TestSecretsManagerDoesNotRespondWhileTheKeyIsOld also shows that the calls wait once for each load, and only during
// its first 300 ms.
func TestSecretsManagerDoesNotRespondWhileTheKeyIsOld(t *testing.T) {
	for _, tt := range []struct{ maxAge, pause time.Duration }{
		{5 * time.Minute, coolDown}, {time.Second, loadTimeout}, // a load begins at the earliest when the last one has ended
	} {
		t.Run(tt.maxAge.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				server, store := newStore()
				store.MaxAge = tt.maxAge
				server.Put(secretID, "first")
				get(t, server, store, Key{}, 1)
				release := server.Hold()
				time.Sleep(2 * tt.maxAge)
				for requests := range 3 {
					go checkKey(t, store, "first", staleWait)
					time.Sleep(staleWait / 3)
					go checkKey(t, store, "first", staleWait*2/3)
					time.Sleep(staleWait * 2 / 3)
					synctest.Wait()
					checkKey(t, store, "first", 0)
					time.Sleep(tt.pause - staleWait - 1)
					checkKey(t, store, "first", 0)
					checkRequests(t, server, 2+requests)
					time.Sleep(time.Nanosecond)
					synctest.Wait()
				}
				release()
				server.Put(secretID, "second")
				checkKey(t, store, "second", 0)
			})
		})
	}
}

func TestKeyStaysInUseWhenItCannotBeLoaded(t *testing.T) {
	fail := func(code string, status int) func(*secretsmanagertest.Server) {
		return func(s *secretsmanagertest.Server) { s.Fail(code, status) }
	}
	put := func(text string) func(*secretsmanagertest.Server) {
		return func(s *secretsmanagertest.Server) { s.Put(secretID, text) }
	}
	for name, breaks := range map[string]func(*secretsmanagertest.Server){
		"denied":        fail("AccessDeniedException", 400),
		"throttled":     fail("ThrottlingException", 400),
		"500":           fail("InternalServiceError", 500),
		"no value":      func(s *secretsmanagertest.Server) { s.Create(secretID) },
		"binary value":  func(s *secretsmanagertest.Server) { s.PutBinary(secretID, []byte(canary)) },
		"empty value":   put(""),
		"two words":     put(canary + " " + canary),
		"a JSON number": put(`{"apiKey":7}`),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				server, store := newStore()
				var logged bytes.Buffer
				store.Log = slog.New(slog.NewJSONHandler(&logged, nil))
				server.Put(secretID, "first")
				first := get(t, server, store, Key{}, 1)
				breaks(server)
				time.Sleep(maxAge)
				checkKey(t, store, "first", 0)
				checkRequests(t, server, 2)
				time.Sleep(coolDown - 1)
				checkKey(t, store, "first", 0)
				checkRequests(t, server, 2)
				time.Sleep(time.Nanosecond)
				checkKey(t, store, "first", 0)
				checkRequests(t, server, 3)
				if key := get(t, server, store, first, 4); key != first {
					t.Errorf("after Incode refused it: %q", key.Reveal())
				}
				if loads, failures := store.Loads.Load(), store.Failures.Load(); loads != 4 || failures != 3 {
					t.Errorf("counted %d loads, %d of them failed", loads, failures)
				}
				line, _, _ := strings.Cut(logged.String(), "\n")
				if strings.Count(logged.String(), `"level":"WARN"`) != 3 || !strings.Contains(line, "the API key was not loaded") ||
					strings.Contains(logged.String(), canary) {
					t.Errorf("logged %s", logged.String())
				}
				server.Recover()
				server.Put(secretID, "second")
				time.Sleep(coolDown)
				checkKey(t, store, "first", 0)
				synctest.Wait()
				checkKey(t, store, "second", 0)
			})
		})
	}
}

// freeze lets time pass that only the wall clock notices, as when Lambda freezes the process. It stops no load.
func freeze(store *Store, d time.Duration) {
	store.mu.Lock()
	defer store.mu.Unlock()
	store.read, store.began, store.confirmed = store.read.Add(-d), store.began.Add(-d), store.confirmed.Add(-d)
}

func TestLoadThatWasFrozenPastItsTimeoutHasFailed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		path, server, store := newSlowStore(t)
		time.Sleep(maxAge)
		path.set(time.Second)
		checkKey(t, store, "first", 0)
		checkRequests(t, server, 2)
		server.Put(secretID, "second")

		freeze(store, loadTimeout)
		checkKey(t, store, "first", 0) // the next load is due after the cool-down
		checkRequests(t, server, 2)
		freeze(store, time.Hour)
		path.set(100 * time.Millisecond)
		checkKey(t, store, "second", 100*time.Millisecond)
		time.Sleep(time.Minute)
		checkKey(t, store, "second", 0) // although the older load has ended later
		checkRequests(t, server, 3)
	})
	t.Run("before it gets the response", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			path, server, store := newSlowStore(t)
			server.Put(secretID, "second")
			time.Sleep(maxAge)
			path.set(loadTimeout)
			checkKey(t, store, "first", 0)
			time.Sleep(loadTimeout)
			synctest.Wait()
			checkKey(t, store, "first", 0)
			if loads, failures := store.Loads.Load(), store.Failures.Load(); loads != 2 || failures != 1 {
				t.Errorf("counted %d loads, %d of them failed", loads, failures)
			}
		})
	})
}

// TestAgesAreMeasuredByTheWallClock, because the monotonic clock stops while Lambda freezes the process.
func TestAgesAreMeasuredByTheWallClock(t *testing.T) {
	server, store := newStore()
	server.Put(secretID, "first")
	get(t, server, store, get(t, server, store, Key{}, 1), 2)
	for name, at := range map[string]time.Time{
		"read": store.read, "began": store.began, "confirmed": store.confirmed,
	} {
		if at.IsZero() || strings.Contains(at.String(), " m=") {
			t.Errorf("%s is %v, want a time without a monotonic reading", name, at)
		}
	}
}

func TestClockThatIsSetBackDelaysNoLoad(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		server, store := newStore()
		server.Put(secretID, "first")
		first := get(t, server, store, get(t, server, store, Key{}, 1), 2)
		server.Put(secretID, "second")
		freeze(store, -time.Hour)
		if key := get(t, server, store, Key{}, 3); key.Reveal() != "second" {
			t.Errorf("got %q", key.Reveal())
		}
		server.Put(secretID, "first")
		freeze(store, -time.Hour)
		get(t, server, store, Key{}, 4)
		server.Put(secretID, "third")
		freeze(store, -time.Hour)
		if key := get(t, server, store, first, 5); key.Reveal() != "third" {
			t.Errorf("after Incode refused the key: %q", key.Reveal())
		}
	})
}

func TestClockThatIsSetBackFailsNoLoad(t *testing.T) {
	server, store := newStore()
	server.Put(secretID, canary)
	store.loading = &load{ended: make(chan struct{})}
	store.run(t.Context(), store.loading, wallClock().Add(time.Hour))
	if store.key.Equal(Key{}) || store.Failures.Load() != 0 {
		t.Error("the load failed")
	}
}
