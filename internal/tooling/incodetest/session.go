package incodetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// session is Incode's response to a started session. Incode calls its 2xx bodies dynamic, so it also has a field that
// no client knows.
type session map[string]any

// newSession creates the next session. The n-th session since New is always the same, token included, so documentation
// can print it and tests can compare it.
//
// A call that names a session (interviewId or uuid) gets a token for that session, and creates none. This is why a
// caller must never choose it.
func (s *Server) newSession(fields map[string]any) session {
	id, existing := fields["interviewId"].(string)
	if uuid, ok := fields["uuid"].(string); ok {
		id, existing = uuid, true
	}
	reply := session{
		"flowType":         "flow",
		"clientId":         "stand-in-client",
		"env":              "demo",
		"existingSession":  existing,
		"idCaptureTimeout": 15,
		"endScreenTitle":   "Done",
		"endScreenText":    "Thank you",
		"futureField":      map[string]any{"since": "next year"},
	}
	if !existing {
		n := int(s.sessions.Add(1))
		s.mu.Lock()
		if customer, ok := fields["externalCustomerId"].(string); ok {
			s.byCustomer[customer] = append(s.byCustomer[customer], n)
		}
		s.mu.Unlock()
		id = interviewID(n)
		reply["interviewCode"] = fmt.Sprintf("%06X", n)
	}
	reply["interviewId"], reply["token"] = id, token(id)
	return reply
}

// interviewID returns the interview ID of the n-th session.
func interviewID(n int) string { return fmt.Sprintf("68e3a1b0c4d5e6f7%08x", n) }

// token returns a JWT like Incode's, signed with a key that is not secret. It has no time of expiry, since it must be
// the same in every run.
func token(interviewID string) string {
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"externalUserId":%q,"role":"ACCESS"}`, interviewID)
	signed := encode([]byte(`{"alg":"HS256"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, []byte("incode stand-in"))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}
