// Command naive is what a competent engineer writes from the documentation of
// AWS and Incode: the secret is read at init, one HTTP client serves all
// requests, encoding/json does the rest. The product is measured against it.
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

type startResponse struct {
	Token string `json:"token"`
}

type server struct {
	client *http.Client
	url    string
	key    string
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
	s := &server{
		client: &http.Client{Timeout: 10 * time.Second},
		url:    os.Getenv("INCODE_BASE_URL") + "/omni/start",
		key:    aws.ToString(secret.SecretString),
	}
	lambda.Start(s.handle)
}

func (s *server) handle(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	var in startRequest
	if err := json.Unmarshal([]byte(ev.Body), &in); err != nil || in.ConfigurationID == "" {
		return respond(http.StatusBadRequest, map[string]string{"error": "invalid request"})
	}
	in.CountryCode = "ALL"
	body, err := json.Marshal(in)
	if err != nil {
		return events.APIGatewayV2HTTPResponse{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return events.APIGatewayV2HTTPResponse{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("api-version", "1.0")
	req.Header.Set("x-api-key", s.key)
	resp, err := s.client.Do(req)
	if err != nil {
		log.Printf("calling Incode: %v", err)
		return respond(http.StatusBadGateway, map[string]string{"error": "upstream"})
	}
	defer resp.Body.Close()
	var out startResponse
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusOK {
		log.Printf("Incode answered %d: %v", resp.StatusCode, err)
		return respond(http.StatusBadGateway, map[string]string{"error": "upstream"})
	}
	log.Printf("session started for request %s", ev.RequestContext.RequestID)
	return respond(http.StatusOK, out)
}

func respond(status int, body any) (events.APIGatewayV2HTTPResponse, error) {
	text, err := json.Marshal(body)
	return events.APIGatewayV2HTTPResponse{
		StatusCode: status,
		Headers:    map[string]string{"Content-Type": "application/json"},
		Body:       string(text),
	}, err
}
