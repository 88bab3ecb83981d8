// Command bare only forwards requests to Incode. The key comes from the environment, so there is no AWS SDK, and
// nothing is validated. It shows what the product's guarantees cost.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	client := &http.Client{Timeout: 10 * time.Second}
	url, key := os.Getenv("INCODE_BASE_URL")+"/omni/start", os.Getenv("INCODE_API_KEY")
	lambda.Start(func(ctx context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		var response events.APIGatewayV2HTTPResponse
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(event.Body))
		if err != nil {
			return response, err
		}
		req.Header = http.Header{"Content-Type": {"application/json"}, "Api-Version": {"1.0"}, "X-Api-Key": {key}}
		resp, err := client.Do(req)
		if err != nil {
			return response, err
		}
		defer resp.Body.Close()
		var session struct{ Token string }
		err = json.NewDecoder(resp.Body).Decode(&session)
		response.StatusCode, response.Body = resp.StatusCode, fmt.Sprintf(`{"token":%q}`, session.Token)
		return response, err
	})
}
