package apigateway

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/aws/aws-lambda-go/events"
)

// WriteResponse sends the function's response as API Gateway does, and returns the HTTP status. Anything that is not a
// response with a statusCode becomes status 500. (API Gateway also accepts JSON without one, which the function never
// returns.)
func WriteResponse(w http.ResponseWriter, payload []byte) (status int) {
	var response events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(payload, &response); err != nil {
		return WriteError(w, err)
	}
	if response.StatusCode < 200 || response.StatusCode > 599 {
		return WriteError(w, nil)
	}
	body := []byte(response.Body)
	if response.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(response.Body); err != nil {
			return WriteError(w, err)
		}
	}
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8") // the default
	for name, value := range response.Headers {
		w.Header().Set(name, value)
	}
	for _, cookie := range response.Cookies {
		w.Header().Add("Set-Cookie", cookie)
	}
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(body) // fails only when the client has left, here and below
	return response.StatusCode
}

// WriteError sends API Gateway's own response to err and returns its HTTP status: that of an *Error, or 500 for any
// other error, such as a failed function. The response does not contain the cause of a 500.
func WriteError(w http.ResponseWriter, err error) (status int) {
	response := &Error{http.StatusInternalServerError, "Internal Server Error", ""}
	errors.As(err, &response)
	if response.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	body, _ := json.Marshal(map[string]string{"message": response.Message}) // strings cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(response.Status)
	_, _ = w.Write(body)
	return response.Status
}
