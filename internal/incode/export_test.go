package incode

import "net/http"

// Replace lets rt answer in the place of Incode, without a connection.
func (c *Client) Replace(rt http.RoundTripper) { c.transport.RegisterProtocol("https", rt) }
