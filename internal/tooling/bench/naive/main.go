// Command naive is what a competent engineer writes from the documentation of AWS and Incode: it reads the secret at
// init, has one HTTP client for all requests, and uses encoding/json. The product is compared with it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

type startRequest struct {
	ConfigurationID    string `json:"configurationId"`
	ExternalCustomerID string `json:"externalCustomerId,omitempty"`
	CountryCode        string `json:"countryCode"`
}

func main() {
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	secret, err := secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(os.Getenv("INCODE_API_KEY_SECRET_ID")),
	})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second}
	url, key := os.Getenv("INCODE_BASE_URL")+"/omni/start", *secret.SecretString
	lambda.Start(func(ctx context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		var in startRequest
		if err := json.Unmarshal([]byte(event.Body), &in); err != nil || in.ConfigurationID == "" {
			return respond(http.StatusBadRequest, map[string]string{"error": "invalid request"})
		}
		in.CountryCode = "ALL"
		body, err := json.Marshal(in)
		if err != nil {
			return events.APIGatewayV2HTTPResponse{}, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return events.APIGatewayV2HTTPResponse{}, err
		}
		req.Header = http.Header{"Content-Type": {"application/json"}, "Api-Version": {"1.0"}, "X-Api-Key": {key}}
		resp, err := client.Do(req)
		if err != nil {
			log.Printf("calling Incode: %v", err)
			return respond(http.StatusBadGateway, map[string]string{"error": "upstream"})
		}
		defer resp.Body.Close()
		var out struct{ Token string }
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusOK {
			log.Printf("Incode answered %d: %v", resp.StatusCode, err)
			return respond(http.StatusBadGateway, map[string]string{"error": "upstream"})
		}
		log.Printf("session started for request %s", event.RequestContext.RequestID)
		return respond(http.StatusOK, map[string]string{"token": out.Token})
	})
}

func respond(status int, body any) (events.APIGatewayV2HTTPResponse, error) {
	text, err := json.Marshal(body)
	return events.APIGatewayV2HTTPResponse{
		StatusCode: status, Headers: map[string]string{"Content-Type": "application/json"}, Body: string(text),
	}, err
}
