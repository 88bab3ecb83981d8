// Command start is the Lambda function behind POST /omni/start.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"sync"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go/logging"

	"omnistart/internal/apikey"
	"omnistart/internal/config"
	"omnistart/internal/endpoint"
	"omnistart/internal/incode"
)

func main() {
	// net/http writes an unsolicited response to the standard logger, and it may contain a key. This also silences
	// aws-lambda-go when the Runtime API itself fails.
	log.SetOutput(io.Discard)
	logger := lambdacontext.NewLogger()
	if err := run(context.Background(), os.Getenv, logger); err != nil {
		logger.Error("the function cannot start", "error", fmt.Sprintf("%.3000s", err))
		os.Exit(1)
	}
}

// run serves requests for the life of the process. It returns only if the function cannot start.
func run(ctx context.Context, getenv func(string) string, logger *slog.Logger) error {
	c, err := config.FromEnv(getenv)
	if err != nil {
		return err
	}
	logSDK := logging.LoggerFunc(func(_ logging.Classification, format string, values ...any) {
		logger.Warn("AWS SDK: " + apikey.Excerpt(fmt.Sprintf(format, values...)))
	})
	aws, err := awsconfig.LoadDefaultConfig(ctx,
		awsconfig.WithHTTPClient(apikey.NewHTTPClient()), awsconfig.WithLogger(logSDK))
	if err != nil {
		return fmt.Errorf("loading the AWS configuration: %w", err)
	}
	secrets := secretsmanager.NewFromConfig(aws)
	keys := &apikey.Store{Secrets: secrets, SecretID: c.SecretID, MaxAge: c.KeyMaxAge, Log: logger}
	sessions := incode.New(c.IncodeBaseURL)

	// Lambda runs a cold start at full speed, so do now what the first request would otherwise wait for. Both parts end
	// within 3 seconds. The first request tries again what fails here.
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = keys.Get(ctx, apikey.Key{}) }) // logs its own failure
	wg.Go(func() {
		if err := sessions.Connect(ctx); err != nil {
			logger.Warn("Incode is not connected yet", "error", err.Error())
		}
	})
	wg.Wait()

	handler := &endpoint.Endpoint{Config: c, Keys: keys, Sessions: sessions, Log: logger}
	lambda.StartWithOptions(handler, lambda.WithContext(ctx))
	return nil
}
