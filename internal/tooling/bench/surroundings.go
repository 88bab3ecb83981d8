//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"sync/atomic"
	"time"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/secretsmanagertest"
)

const secretID = "incode/api-key"

// distance is how far away the two services are, and how long they think.
type distance struct {
	secretsRTT, secretsThink, incodeRTT, incodeThink time.Duration
}

// far is what performance was designed for: Secrets Manager in the same region,
// Incode across some of the Internet.
var far = distance{2 * time.Millisecond, 10 * time.Millisecond, 40 * time.Millisecond, 120 * time.Millisecond}

// floor is the least that a first token takes: Incode's TCP and TLS handshakes
// and the request. The secret is fetched meanwhile.
func (d distance) floor() time.Duration { return 3*d.incodeRTT + d.incodeThink }

// surroundings are the two services that a function meets, over TLS.
type surroundings struct {
	trust       *trust
	incode      *incodetest.Server
	secrets     *secretsmanagertest.Server
	incodeLink  *link
	secretsLink *link
	incodeBusy  atomic.Int64 // nanoseconds that Incode spent on its requests
	servers     []*http.Server
}

// newSurroundings starts the services. wrap, or nil, stands before Secrets
// Manager.
func newSurroundings(t *trust, d distance, wrap func(http.Handler) http.Handler) (*surroundings, error) {
	s := &surroundings{trust: t, incode: incodetest.New(), secrets: secretsmanagertest.New()}
	s.secrets.Put(secretID, incodetest.Key)
	var err error
	if s.incodeLink, err = newLink(d.incodeRTT); err != nil {
		return nil, err
	}
	if s.secretsLink, err = newLink(d.secretsRTT); err != nil {
		return nil, err
	}
	s.serve(s.incodeLink, t.incode, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		defer func() { s.incodeBusy.Add(int64(time.Since(began))) }()
		pause(d.incodeThink)
		s.incode.ServeHTTP(w, r)
	}))
	var secrets http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Read first: a connection with an unread body is not told of its end.
		body, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		r.Body = io.NopCloser(bytes.NewReader(body))
		pause(d.secretsThink)
		s.secrets.ServeHTTP(w, r)
	})
	if wrap != nil {
		secrets = wrap(secrets)
	}
	s.serve(s.secretsLink, t.secretsManager, false, secrets) // AWS speaks HTTP/1.1 there
	return s, nil
}

func (s *surroundings) serve(l *link, c tls.Certificate, http2 bool, handler http.Handler) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(http2)
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: time.Minute,
		Protocols:         &protocols,
		ErrorLog:          log.New(io.Discard, "", 0), // what it says of broken connections is meant
	}
	s.servers = append(s.servers, server)
	go func() { _ = server.ServeTLS(l, "", "") }() // ends with close
}

func (s *surroundings) close() {
	s.incode.Close()
	for _, server := range s.servers {
		_ = server.Close()
	}
}

// env is the environment of a function here: Lambda's part, the AWS SDK's, and
// the function's own.
func (s *surroundings) env(more ...string) []string {
	return append([]string{
		"PATH=/usr/local/bin:/usr/bin:/bin", // for Node
		"AWS_LAMBDA_FUNCTION_NAME=start",
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=bench",
		"AWS_SECRET_ACCESS_KEY=bench",
		"AWS_SESSION_TOKEN=bench",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER=https://" + s.secretsLink.Addr().String(),
		"INCODE_API_KEY_SECRET_ID=" + secretID,
		"INCODE_API_KEY=" + incodetest.Key, // for bare, which has no Secrets Manager
		"INCODE_BASE_URL=https://" + s.incodeLink.Addr().String(),
		"ALLOWED_CONFIGURATION_IDS=" + incodetest.FlowID,
		"NODE_EXTRA_CA_CERTS=" + s.trust.root,
		"SSL_CERT_FILE=" + s.trust.bundle,
	}, more...)
}
