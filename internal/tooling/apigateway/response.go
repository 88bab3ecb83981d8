package apigateway

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/aws/aws-lambda-go/events"
)

// Respond sends what the function returned, as API Gateway does, and returns
// the HTTP status: JSON without a statusCode becomes the body of a 200; what
// API Gateway cannot make sense of becomes a 500.
func Respond(w http.ResponseWriter, payload []byte) (status int) {
	var response events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(payload, &response); err != nil && !json.Valid(payload) {
		return Refuse(w, err)
	}
	if response.StatusCode == 0 {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(payload) // fails only when the client has left, here and below
		return http.StatusOK
	}
	body := []byte(response.Body)
	if response.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(response.Body); err != nil {
			return Refuse(w, err)
		}
	}
	if response.StatusCode < 200 || response.StatusCode > 599 {
		return Refuse(w, nil)
	}
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8") // unless the function says otherwise
	for name, value := range response.Headers {
		w.Header().Set(name, value)
	}
	for _, cookie := range response.Cookies {
		w.Header().Add("Set-Cookie", cookie)
	}
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(body)
	return response.StatusCode
}

// Refuse sends API Gateway's own answer to err and returns its HTTP status:
// that of an *Error, and 500 for everything else, such as a function that
// failed. The reason of a 500 is not told.
func Refuse(w http.ResponseWriter, err error) (status int) {
	refusal := &Error{http.StatusInternalServerError, "Internal Server Error"}
	errors.As(err, &refusal)
	if refusal.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	body, _ := json.Marshal(map[string]string{"message": refusal.Message}) // cannot fail: strings
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(refusal.Status)
	_, _ = w.Write(body)
	return refusal.Status
}
