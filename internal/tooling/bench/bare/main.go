// Command bare passes requests on to Incode and does nothing else: the key comes
// from the environment, so there is no AWS SDK, and nothing is validated. It is
// what the product is measured against to see what its promises cost.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	client := &http.Client{Timeout: 10 * time.Second}
	url, key := os.Getenv("INCODE_BASE_URL")+"/omni/start", os.Getenv("INCODE_API_KEY")
	lambda.Start(func(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(ev.Body)))
		if err != nil {
			return events.APIGatewayV2HTTPResponse{}, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("api-version", "1.0")
		req.Header.Set("x-api-key", key)
		resp, err := client.Do(req)
		if err != nil {
			return events.APIGatewayV2HTTPResponse{}, err
		}
		defer resp.Body.Close()
		var session struct{ Token string }
		if err := json.NewDecoder(resp.Body).Decode(&session); err != nil {
			return events.APIGatewayV2HTTPResponse{}, err
		}
		return events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: fmt.Sprintf(`{"token":%q}`, session.Token)}, nil
	})
}
