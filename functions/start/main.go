// Command start is the Lambda function behind POST /omni/start.
package main

import (
	"context"
	"errors"
	"fmt"
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
	log := lambdacontext.NewLogger()
	if err := run(context.Background(), os.Getenv, log); err != nil {
		log.Error("the function cannot start", "error", err.Error())
		os.Exit(1)
	}
}

// run serves requests for the life of the process. It returns only if the
// function cannot start, once Lambda knows why.
func run(ctx context.Context, getenv func(string) string, log *slog.Logger) error {
	e, err := initialize(ctx, getenv, log)
	if err != nil {
		report := runtimeapi.ReportInitError(ctx, getenv("AWS_LAMBDA_RUNTIME_API"), "Configuration.Invalid", err)
		return errors.Join(err, report)
	}
	lambda.StartWithOptions(e, lambda.WithContext(ctx))
	return nil
}

func initialize(ctx context.Context, getenv func(string) string, log *slog.Logger) (*endpoint.Endpoint, error) {
	c, err := config.FromEnv(getenv)
	if err != nil {
		return nil, err
	}
	aws, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration: %w", err)
	}
	sessions, err := incode.New(c.IncodeBaseURL)
	if err != nil {
		return nil, err
	}
	keys := apikey.NewStore(secretsmanager.NewFromConfig(aws), c.SecretID)
	prepare(ctx, keys, sessions, log)
	return endpoint.New(c, keys, sessions, log), nil
}

// prepare does at once, in the time that Lambda gives to a cold start at full
// speed, what the first request would do in turn. Both parts end within three
// seconds of their own accord, and what fails here the first request tries again.
func prepare(ctx context.Context, keys *apikey.Store, sessions *incode.Client, log *slog.Logger) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := keys.Get(ctx); err != nil {
			log.Warn("the API key is not loaded yet", "error", err.Error())
		}
	})
	wg.Go(func() {
		if err := sessions.Connect(ctx); err != nil {
			log.Warn("Incode is not connected yet", "error", err.Error())
		}
	})
	wg.Wait()
}
