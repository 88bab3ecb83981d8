// Command start is the Lambda function behind POST /omni/start.
package main

import (
	"context"
	"errors"
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

	"omnistart/internal/apikey"
	"omnistart/internal/config"
	"omnistart/internal/endpoint"
	"omnistart/internal/incode"
	"omnistart/internal/runtimeapi"
)

func main() {
	// net/http writes what a server sends unasked to the standard logger, a token
	// perhaps. The price is what aws-lambda-go writes there when the Runtime API
	// itself fails.
	log.SetOutput(io.Discard)
	logger := lambdacontext.NewLogger()
	if err := run(context.Background(), os.Getenv, logger); err != nil {
		logger.Error("the function cannot start", "error", err.Error())
		os.Exit(1)
	}
}

// run serves requests for the life of the process. It returns only if the
// function cannot start, once Lambda knows why.
func run(ctx context.Context, getenv func(string) string, logger *slog.Logger) error {
	api := getenv("AWS_LAMBDA_RUNTIME_API")
	if api == "" {
		return errors.New("it runs in AWS Lambda only, or by make run")
	}
	e, err := initialize(ctx, getenv, logger)
	if err != nil {
		report := runtimeapi.ReportInitError(ctx, api, "Configuration.Invalid", err)
		return errors.Join(err, report)
	}
	lambda.StartWithOptions(e, lambda.WithContext(ctx))
	return nil
}

func initialize(ctx context.Context, getenv func(string) string, logger *slog.Logger) (*endpoint.Endpoint, error) {
	c, err := config.FromEnv(getenv)
	if err != nil {
		return nil, err
	}
	aws, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithHTTPClient(apikey.NewHTTPClient()))
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration: %w", err)
	}
	sessions := incode.New(c.IncodeBaseURL)
	keys := apikey.NewStore(secretsmanager.NewFromConfig(aws), c.SecretID)
	prepare(ctx, keys, sessions, logger)
	return endpoint.New(c, keys, sessions, logger), nil
}

// prepare does at once, in the time that Lambda gives to a cold start at full
// speed, what the first request would do in turn. Both parts end within three
// seconds of their own accord, and what fails here the first request tries again.
func prepare(ctx context.Context, keys *apikey.Store, sessions *incode.Client, logger *slog.Logger) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := keys.Get(ctx); err != nil {
			logger.Warn("the API key is not loaded yet", "error", err.Error())
		}
	})
	wg.Go(func() {
		if err := sessions.Connect(ctx); err != nil {
			logger.Warn("Incode is not connected yet", "error", err.Error())
		}
	})
	wg.Wait()
}
