// Package secretsmanagertest is a stand-in for AWS Secrets Manager: a real HTTP server with as much of the AWS JSON 1.1
// protocol as the SDK's GetSecretValue needs, and with errors on request.
package secretsmanagertest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
)

// Server is the stand-in. Create it with New and hand it to net/http or net/http/httptest. All methods are safe for
// concurrent use.
type Server struct {
	mu       sync.Mutex // guards the fields below
	requests int
	versions int
	secrets  map[string]*value // by name; a nil value is a secret without a version
	code     string            // of the error that requests get, or ""
	status   int               // of that error
	held     chan struct{}     // nil, or closed to release the requests
}

// value is the AWSCURRENT version of a secret. The stand-in keeps no other.
type value struct {
	versionID string
	text      *string
	binary    []byte
}

// New returns a server without secrets.
func New() *Server { return &Server{secrets: map[string]*value{}} }

// Create creates a secret without a value, as a stack does when the operator is to set the value.
func (s *Server) Create(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name] = nil
}

// Put gives the secret a new AWSCURRENT version, creating the secret when there is none, and returns the version's ID.
func (s *Server) Put(name, text string) (versionID string) {
	return s.put(name, value{text: &text})
}

// PutBinary is Put for a binary value.
func (s *Server) PutBinary(name string, binary []byte) (versionID string) {
	return s.put(name, value{binary: binary})
}

func (s *Server) put(name string, v value) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions++
	v.versionID = fmt.Sprintf("00000000-0000-4000-8000-%012d", s.versions)
	s.secrets[name] = &v
	return v.versionID
}

// ARN returns the ARN of the secret with this name. Its last six characters, which are random in AWS, are always the
// same.
func ARN(name string) string { return arnPrefix + name + arnSuffix }

const (
	arnPrefix = "arn:aws:secretsmanager:us-east-1:123456789012:secret:"
	arnSuffix = "-a1B2c3"
)

// Requests returns how many requests have arrived, valid or not.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Fail makes every request fail with the error code and the HTTP status, such as ThrottlingException and 400, until
// Recover.
func (s *Server) Fail(code string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.status = code, status
}

// Recover ends the effect of Fail.
func (s *Server) Recover() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = ""
}

// Hold delays the response to every request until release is called. Call release before closing the HTTP server, which
// waits for its requests.
func (s *Server) Hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.held = held
	return sync.OnceFunc(func() { close(held) })
}

// signed matches a SigV4 Authorization header. The signature is not verified.
var signed = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=[^/ ]+/\d{8}/[a-z0-9-]+/secretsmanager/aws4_request, ` +
	`SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}$`)

// ServeHTTP implements GetSecretValue.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	s.mu.Lock()
	s.requests++
	code, status, held := s.code, s.status, s.held
	s.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	var in struct{ SecretId, VersionStage string }
	authorization := r.Header.Get("Authorization")
	switch {
	case code != "":
		writeError(w, status, code, "This failure was requested by a test")
	case r.Method != "POST" || r.URL.Path != "/" || r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue":
		writeError(w, http.StatusBadRequest, "UnknownOperationException", "")
	case authorization == "":
		writeError(w, http.StatusBadRequest, "MissingAuthenticationTokenException", "Missing Authentication Token")
	case !signed.MatchString(authorization):
		writeError(w, http.StatusBadRequest, "IncompleteSignatureException", "Not a SigV4 Authorization header")
	case err != nil || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || json.Unmarshal(body, &in) != nil:
		writeError(w, http.StatusBadRequest, "SerializationException", "")
	case in.SecretId == "":
		writeError(w, http.StatusBadRequest, "InvalidParameterException", "You must provide a value for SecretId")
	default:
		s.getSecretValue(w, in.SecretId, cmp.Or(in.VersionStage, "AWSCURRENT"))
	}
}

func (s *Server) getSecretValue(w http.ResponseWriter, id, stage string) {
	name := strings.TrimSuffix(strings.TrimPrefix(id, arnPrefix), arnSuffix)
	s.mu.Lock()
	v, ok := s.secrets[name]
	s.mu.Unlock()
	const text = "Secrets Manager can't find the specified secret"
	switch {
	case !ok:
		writeError(w, http.StatusBadRequest, "ResourceNotFoundException", text+".")
	case stage != "AWSCURRENT", v == nil:
		writeError(w, http.StatusBadRequest, "ResourceNotFoundException", text+" value for staging label: "+stage)
	default:
		writeJSON(w, http.StatusOK, struct {
			ARN, Name, VersionId string
			SecretString         *string `json:",omitempty"`
			SecretBinary         []byte  `json:",omitempty"` // base64 in JSON
			VersionStages        []string
			CreatedDate          float64 // seconds since 1970
		}{ARN(name), name, v.versionID, v.text, v.binary, []string{"AWSCURRENT"}, 1.7e9})
	}
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, struct {
		Type    string `json:"__type"`
		Message string
	}{code, message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the client has left
}
