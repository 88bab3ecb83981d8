// Package secretsmanagertest is a stand-in for AWS Secrets Manager: a real HTTP
// server that speaks enough of the AWS JSON 1.1 protocol for the SDK's
// GetSecretValue, faults included.
package secretsmanagertest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sync"
)

// Server is the stand-in. Create it with New and hand it to net/http or
// net/http/httptest. All methods are safe for concurrent use.
type Server struct {
	mu       sync.Mutex // guards everything below
	requests int
	versions int
	secrets  map[string]*value // by name; a nil value is a secret without a version
	fault    *fault
	gate     chan struct{} // closed or nil when requests may pass
}

// value is the AWSCURRENT version of a secret. The real service also keeps
// AWSPREVIOUS; nobody may read that here.
type value struct {
	versionID string
	text      *string
	binary    []byte
}

type fault struct {
	status int
	code   string
}

// New returns a server without secrets.
func New() *Server { return &Server{secrets: map[string]*value{}} }

// Create makes a secret that has no value yet, as a stack does that leaves the
// value to the operator.
func (s *Server) Create(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name] = nil
}

// Put gives the secret a new AWSCURRENT version, creating the secret when there
// is none, and returns the version's ID.
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

// ARN returns the ARN of the secret with this name. The real service adds six
// random characters; here they are fixed.
func ARN(name string) string {
	return "arn:aws:secretsmanager:us-east-1:123456789012:secret:" + name + "-a1B2c3"
}

// Requests returns how many requests have arrived, whatever became of them.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Fail answers every coming request with the error code and HTTP status, such
// as ThrottlingException and 400, until Recover.
func (s *Server) Fail(code string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = &fault{status, code}
}

// Recover ends what Fail began.
func (s *Server) Recover() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = nil
}

// Hold lets every coming request hang until its client leaves or release is
// called; then it is answered as usual. Call release before closing the HTTP
// server, which waits for its requests.
func (s *Server) Hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

// signed is the shape of a SigV4 Authorization header. The signature itself is
// not checked: that is the SDK's part.
var signed = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=[^/ ]+/\d{8}/[a-z0-9-]+/secretsmanager/aws4_request, ` +
	`SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}$`)

// ServeHTTP answers GetSecretValue.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	fault, gate := s.arrive()
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	var in struct{ SecretId, VersionId, VersionStage string }
	switch {
	case fault != nil:
		writeError(w, fault.status, fault.code, "A fault that was asked for")
	case r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue":
		writeError(w, http.StatusBadRequest, "UnknownOperationException", "")
	case r.Header.Get("Authorization") == "":
		writeError(w, http.StatusBadRequest, "MissingAuthenticationTokenException", "Missing Authentication Token")
	case !signed.MatchString(r.Header.Get("Authorization")):
		writeError(w, http.StatusBadRequest, "IncompleteSignatureException", "Not a SigV4 Authorization header")
	case err != nil || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || json.Unmarshal(body, &in) != nil:
		writeError(w, http.StatusBadRequest, "SerializationException", "")
	case in.SecretId == "":
		writeError(w, http.StatusBadRequest, "InvalidParameterException", "You must provide a value for SecretId")
	default:
		s.getSecretValue(w, in.SecretId, in.VersionId, in.VersionStage)
	}
}

// arrive counts the request and returns what shall become of it.
func (s *Server) arrive() (*fault, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	return s.fault, s.gate
}

func (s *Server) getSecretValue(w http.ResponseWriter, id, versionID, stage string) {
	name, v, ok := s.find(id)
	switch {
	case !ok:
		writeError(w, http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	case stage != "" && stage != "AWSCURRENT", v == nil:
		if stage == "" {
			stage = "AWSCURRENT"
		}
		writeError(w, http.StatusBadRequest, "ResourceNotFoundException",
			"Secrets Manager can't find the specified secret value for staging label: "+stage)
	case versionID != "" && versionID != v.versionID:
		writeError(w, http.StatusBadRequest, "ResourceNotFoundException",
			"Secrets Manager can't find the specified secret value for VersionId: "+versionID)
	default:
		writeJSON(w, http.StatusOK, struct {
			ARN, Name, VersionId string
			SecretString         *string `json:",omitempty"`
			SecretBinary         []byte  `json:",omitempty"` // base64 on the wire
			VersionStages        []string
			CreatedDate          float64 // seconds since 1970
		}{ARN(name), name, v.versionID, v.text, v.binary, []string{"AWSCURRENT"}, 1.7e9})
	}
}

// find looks a secret up by name or ARN.
func (s *Server) find(id string) (name string, v *value, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, v := range s.secrets {
		if id == name || id == ARN(name) {
			return name, v, true
		}
	}
	return "", nil, false
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
