package apikey

import (
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"omnistart/internal/outbound"
)

// The bounds of a reply's header and body. A secret has at most 64 KiB, which
// JSON may write as six times as many.
const (
	maxHeader = 64 << 10
	maxReply  = 512 << 10
)

// NewHTTPClient returns the HTTP client for Secrets Manager: the SDK's own,
// without its trust in what it is sent. A reply ends after 512 KiB, and an
// error quotes nothing of one.
func NewHTTPClient() aws.HTTPClient {
	return client{awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		// The secret is read rarely: a connection that was kept would be dead by
		// then, and if it died in silence, the first request after a rotation
		// with it.
		t.DisableKeepAlives = true
		t.MaxResponseHeaderBytes = maxHeader
		t.DialContext = outbound.Dial
	})}
}

type client struct{ sdk aws.HTTPClient }

func (c client) Do(r *http.Request) (*http.Response, error) {
	resp, err := c.sdk.Do(r)
	if err != nil {
		return nil, outbound.Redact(err)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxReply), resp.Body}
	return resp, nil
}
