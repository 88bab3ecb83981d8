package secretsmanagertest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"omnistart/internal/tooling/secretsmanagertest"
)

// serve starts the stand-in and returns it with a client of the SDK that does not
// retry.
func serve(t *testing.T) (*secretsmanagertest.Server, *secretsmanager.Client) {
	t.Helper()
	server := secretsmanagertest.New()
	ts := httptest.NewServer(server)
	t.Cleanup(ts.Close)
	return server, secretsmanager.New(secretsmanager.Options{
		BaseEndpoint: aws.String(ts.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "not-a-secret", ""),
		HTTPClient:   ts.Client(),
		Region:       "us-east-1",
		Retryer:      aws.NopRetryer{},
	})
}

func get(ctx context.Context, client *secretsmanager.Client, id string) (*secretsmanager.GetSecretValueOutput, error) {
	return client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(id)})
}

// code returns the AWS error code, or the text of any other error.
func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSecretIsFoundByNameAndByARN(t *testing.T) {
	server, client := serve(t)
	versionID := server.Put("incode/api-key", "s3cret")
	for _, id := range []string{"incode/api-key", secretsmanagertest.ARN("incode/api-key")} {
		out, err := get(t.Context(), client, id)
		if err != nil {
			t.Fatal(err)
		}
		if aws.ToString(out.SecretString) != "s3cret" || out.SecretBinary != nil {
			t.Errorf("%s: text %q, binary %q", id, aws.ToString(out.SecretString), out.SecretBinary)
		}
		if aws.ToString(out.VersionId) != versionID || len(versionID) != 36 {
			t.Errorf("%s: version %q, want %q", id, aws.ToString(out.VersionId), versionID)
		}
		if aws.ToString(out.ARN) != secretsmanagertest.ARN("incode/api-key") || out.CreatedDate == nil {
			t.Errorf("%s: ARN %q, created %v", id, aws.ToString(out.ARN), out.CreatedDate)
		}
	}
	if server.Requests() != 2 {
		t.Errorf("%d requests, want 2", server.Requests())
	}
}

func TestPutReplacesTheCurrentVersion(t *testing.T) {
	server, client := serve(t)
	old := server.Put("key", "old")
	server.Put("key", "new")
	out, err := get(t.Context(), client, "key")
	if err != nil || aws.ToString(out.SecretString) != "new" || aws.ToString(out.VersionId) == old {
		t.Errorf("got %v, %v", out, err)
	}
}

func TestBinaryValue(t *testing.T) {
	server, client := serve(t)
	server.PutBinary("key", []byte{0xff, 0x00})
	out, err := get(t.Context(), client, "key")
	if err != nil || string(out.SecretBinary) != "\xff\x00" || out.SecretString != nil {
		t.Errorf("got %v, %v", out, err)
	}
}

func TestSecretThatDoesNotExistIsNotFound(t *testing.T) {
	tests := []struct {
		name    string
		in      secretsmanager.GetSecretValueInput
		message string
	}{
		{"no such secret", secretsmanager.GetSecretValueInput{SecretId: aws.String("other")},
			"can't find the specified secret."},
		{"a secret without a value", secretsmanager.GetSecretValueInput{SecretId: aws.String("empty")},
			"can't find the specified secret value for staging label: AWSCURRENT"},
		{"the previous value",
			secretsmanager.GetSecretValueInput{SecretId: aws.String("key"), VersionStage: aws.String("AWSPREVIOUS")},
			"can't find the specified secret value for staging label: AWSPREVIOUS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, client := serve(t)
			server.Create("empty")
			server.Put("key", "s3cret")
			_, err := client.GetSecretValue(t.Context(), &tt.in)
			if code(err) != "ResourceNotFoundException" || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFailReturnsTheErrorUntilRecover(t *testing.T) {
	for want, status := range map[string]int{
		"ResourceNotFoundException": http.StatusBadRequest,
		"AccessDeniedException":     http.StatusBadRequest,
		"ThrottlingException":       http.StatusBadRequest,
		"InternalServiceError":      http.StatusInternalServerError,
	} {
		t.Run(want, func(t *testing.T) {
			server, client := serve(t)
			server.Put("key", "s3cret")
			server.Fail(want, status)
			if _, err := get(t.Context(), client, "key"); code(err) != want {
				t.Errorf("got %v", err)
			}
			server.Recover()
			if _, err := get(t.Context(), client, "key"); err != nil {
				t.Errorf("after Recover: %v", err)
			}
		})
	}
}

func TestUnsignedRequestIsRefused(t *testing.T) {
	for authorization, want := range map[string]string{
		"":                 "MissingAuthenticationTokenException",
		"Bearer something": "IncompleteSignatureException",
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"SecretId":"key"}`))
		r.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		secretsmanagertest.New().ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"__type":"`+want+`"`) {
			t.Errorf("Authorization %q: %d %s", authorization, w.Code, w.Body)
		}
	}
}

func TestOtherOperationsAreRefused(t *testing.T) {
	server, client := serve(t)
	server.Put("key", "s3cret")
	_, err := client.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: aws.String("key")})
	if code(err) != "UnknownOperationException" {
		t.Errorf("got %v", err)
	}
}

func TestHoldDelaysTheResponse(t *testing.T) {
	t.Run("until released", func(t *testing.T) {
		server, client := serve(t)
		server.Put("key", "old")
		release := server.Hold()
		defer release()
		got := make(chan string, 1)
		go func() {
			out, err := get(t.Context(), client, "key")
			if err != nil {
				got <- err.Error()
				return
			}
			got <- aws.ToString(out.SecretString)
		}()
		for server.Requests() == 0 { // until the request has arrived
			select {
			case early := <-got:
				t.Fatalf("got a response before release: %s", early)
			default:
				runtime.Gosched()
			}
		}
		server.Put("key", "new")
		release()
		if text := <-got; text != "new" {
			t.Errorf("got %s", text)
		}
	})
	t.Run("until the client leaves", func(t *testing.T) {
		server, client := serve(t)
		server.Put("key", "s3cret")
		defer server.Hold()()
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := get(ctx, client, "key")
			failed <- err
		}()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
