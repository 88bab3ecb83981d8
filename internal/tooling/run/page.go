//go:build unix

package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	text "text/template"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/parser"

	"omnistart/internal/tooling/incodetest"
)

//go:embed page
var files embed.FS

var (
	templates = template.Must(template.ParseFS(files, "page/*.html"))
	terminal  = text.Must(text.ParseFS(files, "page/terminal.txt")) // the banner, and the line for a call
)

// page is what the page and the banner show.
type page struct {
	URL     string
	Flows   []incodetest.Flow // of the stand-in for Incode
	Own     []string          // the user's own flows
	Incode  string            // the URL of the real Incode, or "" with the stand-in
	Claim   string            // names the customer
	Closed  bool              // requests need an authorizer
	Origins []string          // whose pages may call
}

// policy allows the page to load only its own files, and no other page to show it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// register adds the page's paths to a mux. problems is the file with the catalogue.
func (p page) register(mux *http.ServeMux, calls http.Handler, problems string) {
	handle := func(path string, handler http.HandlerFunc) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
				http.Error(w, "Pages of another origin may not read this.", http.StatusForbidden)
				return
			}
			w.Header().Set("Content-Security-Policy", policy)
			handler(w, r)
		})
	}
	handle("/{$}", func(w http.ResponseWriter, _ *http.Request) { _ = templates.ExecuteTemplate(w, "index.html", p) })
	for _, name := range []string{"/page.css", "/page.js"} {
		handle(name, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "page"+name) })
	}
	handle("/calls", calls.ServeHTTP)
	withIDs := goldmark.New(goldmark.WithParserOptions(parser.WithAutoHeadingID()))
	handle("/problems/{$}", func(w http.ResponseWriter, _ *http.Request) {
		var html bytes.Buffer
		markdown, err := os.ReadFile(problems)
		if err = errors.Join(err, withIDs.Convert(markdown, &html)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = templates.ExecuteTemplate(w, "problems.html", template.HTML(html.String())) // goldmark omits raw HTML
	})
	handle("/problems/{code}", func(w http.ResponseWriter, r *http.Request) { // the type of a problem
		http.Redirect(w, r, "/problems/#"+r.PathValue("code"), http.StatusFound)
	})
}

// checkHost refuses a request by any other host. Otherwise a page on the internet could call this server by a name of
// its own that resolves to 127.0.0.1 (DNS rebinding).
func (a *localAPI) checkHost(next http.Handler, hosts ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := (&url.URL{Host: r.Host}).Hostname(); !slices.Contains(hosts, host) {
			a.print("403 host refused  %s %s  %q is not in HOSTS", r.Method, r.URL.EscapedPath(), host)
			http.Error(w, "The variable HOSTS does not allow this host.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// call is a request as its line and the page show it. It has no body, and of the headers only what a refused preflight
// asks for. The paths and the names of fields are those that the client sent.
type call struct {
	ID                   string // the header Apigw-Requestid of the response
	At                   time.Time
	Method, Path         string
	Flow                 string // the configuration ID, or "" without a valid one
	Caller               string // the kind of authorizer; "" when API Gateway refused the request
	Status               int
	Outcome              string // "session started", the code of a problem, or who refused the request
	Reason               string
	TotalMs, ColdStartMs float64 // what a client of Lambda waits for, and the init's part of it
	Log                  string  // the line that the function logged, or ""
	Line                 logLine `json:"-"`
	// Problem has the fields at fault.
	Problem struct{ Errors []struct{ Pointer string } }
}

// calls keeps the latest calls and serves them. Create it with newCalls. It is safe for concurrent use.
type calls struct {
	mu     sync.Mutex    // guards the fields below
	latest []string      // at most 20 server-sent events
	total  int           // how many there have been
	added  chan struct{} // closed by the next add
}

func newCalls() *calls { return &calls{added: make(chan struct{})} }

func (l *calls) add(c call) {
	event, _ := json.Marshal(c) // strings, numbers and a time cannot fail
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest = append(l.latest, fmt.Sprintf("data: %s\n\n", event))
	l.latest = l.latest[max(0, len(l.latest)-20):]
	l.total++
	close(l.added)
	l.added = make(chan struct{})
}

// ServeHTTP sends the latest calls and then each new one.
func (l *calls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for sent := 0; ; {
		l.mu.Lock()
		events, added := strings.Join(l.latest[max(0, len(l.latest)-l.total+sent):], ""), l.added
		sent = l.total
		l.mu.Unlock()
		_, _ = io.WriteString(w, events) // fails only when the client has left
		_ = http.NewResponseController(w).Flush()
		select {
		case <-added:
		case <-r.Context().Done():
			return
		}
	}
}
