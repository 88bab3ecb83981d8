// Package runtimeapi speaks the one part of the Lambda Runtime API that
// aws-lambda-go leaves out.
package runtimeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// ReportInitError tells Lambda why the function cannot start, so that the
// reason reaches the log and the caller of a test invocation. addr is the host
// and port in AWS_LAMBDA_RUNTIME_API; errorType has the form Category.Reason.
// The process is expected to exit afterwards.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-initerror
func ReportInitError(ctx context.Context, addr, errorType string, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	body, _ := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": cause.Error()}) // strings always can
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/2018-06-01/runtime/init/error", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("reporting the init error: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Lambda-Runtime-Function-Error-Type", errorType)
	// A transport of its own, since the default one would follow HTTP_PROXY.
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("reporting the init error: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("reporting the init error: HTTP %d", resp.StatusCode)
	}
	return nil
}
