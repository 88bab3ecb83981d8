//go:build linux

package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/lambdaenv"
	"omnistart/internal/tooling/secretsmanagertest"
)

// distance is the network's round-trip time to the two services, and the time that they take for a request.
type distance struct {
	secretsRTT, secretsLatency, incodeRTT, incodeLatency time.Duration
}

// floor is the shortest possible time to a first token: Incode's TCP handshake, TLS handshake and request. The secret
// is loaded at the same time.
func (d distance) floor() time.Duration { return 3*d.incodeRTT + d.incodeLatency }

// environment is what the processes of a scenario run in: the two services, over TLS, and the environment variables.
type environment struct {
	scenario
	variables    []string
	incode       *incodetest.Server
	incodeLink   *link
	incodeTime   atomic.Int64 // nanoseconds that Incode has spent on requests
	servers      []*httptest.Server
	controlGroup string // its directory, if the scenario limits the CPU
}

// newEnvironment starts the services and writes the files with which the variants verify their certificate to dir.
func newEnvironment(dir string, sc scenario) (*environment, error) {
	e := &environment{scenario: sc, incode: incodetest.New()}
	secrets := secretsmanagertest.New()
	secrets.Put(lambdaenv.SecretID, incodetest.Key)
	secretsLink, err := newLink(sc.distance.secretsRTT)
	if err != nil {
		return nil, err
	}
	e.serve(secretsLink, false, func(w http.ResponseWriter, r *http.Request) { // Secrets Manager has no HTTP/2
		sleep(sc.distance.secretsLatency)
		secrets.ServeHTTP(w, r)
	})
	if e.incodeLink, err = newLink(sc.distance.incodeRTT); err != nil {
		return nil, err
	}
	e.serve(e.incodeLink, true, func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		defer func() { e.incodeTime.Add(int64(time.Since(began))) }()
		sleep(sc.distance.incodeLatency)
		e.incode.ServeHTTP(w, r)
	})
	trust, err := trustStore(dir, e.servers[0].Certificate()) // all have the same
	e.variables = lambdaenv.Variables(e.servers[0].URL, e.servers[1].URL, append(trust,
		"ALLOWED_CONFIGURATION_IDS="+incodetest.FlowID,
		"INCODE_API_KEY="+incodetest.Key, // for bare, which does not call Secrets Manager
		"PATH="+os.Getenv("PATH"),        // for Node.js
	)...)
	return e, err
}

func (e *environment) serve(l *link, http2 bool, handler http.HandlerFunc) {
	server := httptest.NewUnstartedServer(handler)
	_ = server.Listener.Close()
	server.Listener = l
	server.EnableHTTP2 = http2
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections are broken on purpose
	server.StartTLS()
	e.servers = append(e.servers, server)
}

func (e *environment) close() {
	e.incode.Close()
	for _, server := range e.servers {
		server.Close()
	}
	_ = os.Remove(e.controlGroup) // which has no processes any more
}

// trustStore writes files like those of Amazon Linux 2023 to dir, with this machine's certificate authorities and one
// more, and returns the variables that name them. The authorities of Debian and of Amazon Linux are Mozilla's, so that
// parsing them takes as long as on Lambda.
func trustStore(dir string, root *x509.Certificate) (variables []string, err error) {
	bundle, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		return nil, fmt.Errorf("install ca-certificates: %w", err)
	}
	rootPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})
	bundle = append(bundle, rootPEM...)
	// Amazon Linux has the bundle twice in /etc/pki/tls/certs, and /etc/ssl/certs is a link to that. Go reads a bundle and
	// both directories (golang/go#79018).
	certs, link := filepath.Join(dir, "certs"), filepath.Join(dir, "link")
	_ = os.Remove(link)
	err = errors.Join(
		os.MkdirAll(certs, 0o750),
		os.Symlink("certs", link),
		os.WriteFile(filepath.Join(dir, "root.pem"), rootPEM, 0o600),
		os.WriteFile(filepath.Join(certs, "ca-bundle.crt"), bundle, 0o600),
		os.WriteFile(filepath.Join(certs, "ca-certificates.crt"), bundle, 0o600),
	)
	return []string{
		"SSL_CERT_FILE=" + filepath.Join(certs, "ca-bundle.crt"),
		"SSL_CERT_DIR=" + certs + ":" + link,
		"NODE_EXTRA_CA_CERTS=" + filepath.Join(dir, "root.pem"), // Node.js has a bundle of its own
	}, err
}

// newCPULimit creates a control group whose processes have the part of a CPU that Lambda gives a function with this
// memory. 1,769 MB have one CPU:
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
// The period of 20 ms is Lambda's, as measured by others.
func newCPULimit(megabytes int) (dir string, err error) {
	const period = 20_000 // µs
	quota := period * megabytes / 1769
	root, files := "/sys/fs/cgroup", map[string]string{"cpu.max": fmt.Sprintf("%d %d", quota, period)}
	if _, err := os.Stat("/sys/fs/cgroup/cpu"); err == nil { // version 1 of control groups
		root += "/cpu"
		files = map[string]string{"cpu.cfs_period_us": fmt.Sprint(period), "cpu.cfs_quota_us": fmt.Sprint(quota)}
	}
	dir = filepath.Join(root, fmt.Sprintf("omnistart-bench-%d", os.Getpid()))
	err = os.Mkdir(dir, 0o750)
	for name, value := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600))
	}
	return dir, err
}
