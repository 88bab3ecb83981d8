package apikey

import (
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"omnistart/internal/network"
)

// The bounds of a response's header and body. A secret has at most 64 KiB, and JSON can need six times as many bytes.
const maxHeader, maxBody = 64 << 10, 512 << 10

// NewHTTPClient returns the HTTP client for Secrets Manager. It is the SDK's own, except that it connects with
// [network.Dial], keeps no connection, limits the header and the body of a response, and redacts errors.
func NewHTTPClient() aws.HTTPClient {
	return client{awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		// The secret is rarely read, so an idle connection would be dead by the next load. If no FIN or RST had
		// announced that, the load would wait until its timeout.
		t.DisableKeepAlives = true
		t.MaxResponseHeaderBytes = maxHeader
		t.DialContext = network.Dial
	})}
}

type client struct{ sdk aws.HTTPClient }

func (c client) Do(request *http.Request) (*http.Response, error) {
	response, err := c.sdk.Do(request)
	if err != nil {
		return nil, network.Redact(err)
	}
	response.Body = http.MaxBytesReader(nil, response.Body, maxBody)
	return response, nil
}
