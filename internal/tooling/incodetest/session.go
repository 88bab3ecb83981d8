package incodetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// session is Incode's documented reply to a started session, and one field from
// a future Incode: its 2xx bodies are dynamic, so a client must cope with both.
type session struct {
	Token                 any    `json:"token"` // a string, but for the flows that break it
	InterviewID           string `json:"interviewId"`
	InterviewCode         string `json:"interviewCode"`
	FlowType              string `json:"flowType"`
	ClientID              string `json:"clientId"`
	Env                   string `json:"env"`
	ExistingSession       bool   `json:"existingSession"`
	IDCaptureTimeout      int    `json:"idCaptureTimeout"`
	IDCaptureRetries      int    `json:"idCaptureRetries"`
	SelfieCaptureTimeout  int    `json:"selfieCaptureTimeout"`
	SelfieCaptureRetries  int    `json:"selfieCaptureRetries"`
	CURPValidationRetries int    `json:"curpValidationRetries"`
	EndScreenTitle        string `json:"endScreenTitle"`
	EndScreenText         string `json:"endScreenText"`
	FutureField           any    `json:"futureField"`
}

// newSession creates the next session. The n-th one since New is always the
// same, token and all, so that documentation can print it and tests can compare
// it.
//
// A call that names a session (interviewId or uuid) gets a token for that one,
// and creates none: this is why a caller must never choose it.
func (s *Server) newSession(fields map[string]any) session {
	reply := session{
		FlowType:              "flow",
		ClientID:              "stand-in-client",
		Env:                   "demo",
		IDCaptureTimeout:      15,
		IDCaptureRetries:      3,
		SelfieCaptureTimeout:  15,
		SelfieCaptureRetries:  3,
		CURPValidationRetries: 3,
		EndScreenTitle:        "Done",
		EndScreenText:         "Thank you",
		FutureField:           map[string]any{"since": "next year"},
	}
	for _, name := range []string{"interviewId", "uuid"} {
		if id, ok := fields[name].(string); ok {
			reply.InterviewID, reply.ExistingSession = id, true
		}
	}
	if !reply.ExistingSession {
		s.mu.Lock()
		s.sessions++
		n := s.sessions
		if customer, ok := fields["externalCustomerId"].(string); ok {
			s.byName[customer] = append(s.byName[customer], n)
		}
		s.mu.Unlock()
		reply.InterviewID = interviewID(n)
		reply.InterviewCode = fmt.Sprintf("%06X", n)
	}
	reply.Token = token(reply.InterviewID)
	return reply
}

// interviewID returns the name of the n-th session.
func interviewID(n int) string { return fmt.Sprintf("68e3a1b0c4d5e6f7%08x", n) }

// token returns a JWT like Incode's, signed with a secret that is no secret. It
// holds no time of day: Incode's tokens live about 90 days, and these must be
// the same on every run.
func token(interviewID string) string {
	encode := base64.RawURLEncoding.EncodeToString
	payload, _ := json.Marshal(struct { // cannot fail: two strings
		ExternalUserID string `json:"externalUserId"`
		Role           string `json:"role"`
	}{interviewID, "ACCESS"})
	signed := encode([]byte(`{"alg":"HS256"}`)) + "." + encode(payload)
	mac := hmac.New(sha256.New, []byte("incode stand-in"))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}
