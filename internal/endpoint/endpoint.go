// Package endpoint implements the HTTP contract: it turns an API Gateway HTTP API event into a call to Incode, and the
// result into a response.
package endpoint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/apikey"
	"omnistart/internal/config"
	"omnistart/internal/incode"
	"omnistart/internal/problem"
)

// responseReserve is the part of Lambda's deadline that is kept for the response and the log line.
const responseReserve = 500 * time.Millisecond

// Endpoint answers requests. It is safe for concurrent use. The exported fields must be set before the first request,
// and not change afterwards.
type Endpoint struct {
	Config   config.Config
	Keys     *apikey.Store
	Sessions *incode.Client
	Log      *slog.Logger

	warm atomic.Bool // set by the first request
}

// Invoke answers one API Gateway HTTP API event of payload format 2.0. Every error becomes a response: Invoke never
// returns one and never panics. ctx must be one of aws-lambda-go, which has a deadline and a LambdaContext.
//
// A handler of typed events was rejected: aws-lambda-go logs an event that it cannot decode, and so a customer's ID.
func (e *Endpoint) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	began := time.Now()
	lambda, _ := lambdacontext.FromContext(ctx)
	x := &exchange{requestID: lambda.AwsRequestID, coldStart: !e.warm.Swap(true)}
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(-responseReserve))
	defer cancel()
	x.Session, x.err = e.serve(ctx, payload, x)
	r := e.response(x)
	encoded, _ := json.Marshal(r) // cannot fail: r holds strings and a number
	x.duration = time.Since(began)
	e.logRequest(ctx, r.StatusCode, x)
	return encoded, nil
}

func (e *Endpoint) serve(ctx context.Context, payload []byte, x *exchange) (session incode.Session, err error) {
	defer func() {
		if v := recover(); v != nil { // the value itself may be anything, so it is not logged
			err = fmt.Errorf("panic: a value of type %T\n%.12000s", v, debug.Stack())
		}
	}()
	var event httpEvent
	if json.Unmarshal(payload, &event) != nil { // its error may quote the event
		return session, errors.New("the event is not one of an API Gateway HTTP API")
	}
	x.apiRequestID = event.RequestContext.RequestID
	fields, err := e.requestFields(&event, x)
	if err != nil {
		return session, err
	}
	return e.startSession(ctx, fields, x)
}

// startSession starts a session with the current key. When Incode refuses that key and the secret has a newer one, it
// makes a second attempt: a refused request has started no session.
func (e *Endpoint) startSession(ctx context.Context, fields map[string]any, x *exchange) (s incode.Session, err error) {
	for range 2 {
		began := time.Now()
		key, keyErr := e.Keys.Get(ctx, x.key)
		x.secretTime += time.Since(began)
		if keyErr != nil || key.Equal(x.key) { // there is no key, or none newer than the refused one
			return s, cmp.Or(keyErr, err)
		}
		x.key, x.keyRefreshed = key, err != nil
		began = time.Now()
		incodeCtx, cancel := context.WithTimeout(ctx, e.Config.IncodeTimeout)
		s, err = e.Sessions.Start(incodeCtx, key, fields)
		cancel()
		x.incodeTime += time.Since(began)
		if !errors.Is(err, problem.IncodeUnauthorized) && !errors.Is(err, problem.IncodeForbidden) {
			return s, err
		}
	}
	return s, err
}

// response is a response in API Gateway's payload format 2.0. API Gateway adds the CORS headers, and would ignore ours.
type response struct {
	StatusCode int `json:"statusCode"`
	Headers    struct {
		ContentType  string `json:"Content-Type"`
		CacheControl string `json:"Cache-Control"`
		RetryAfter   string `json:"Retry-After,omitempty"`
	} `json:"headers"`
	Body string `json:"body"`
}

// success is the body of a response with a session.
type success struct {
	Token       string `json:"token"`
	InterviewID string `json:"interviewId,omitempty"`
}

// failure is the body of a response with a problem (RFC 9457).
type failure struct {
	Type string `json:"type"`
	*problem.Problem
	RequestID string     `json:"requestId"`
	Errors    violations `json:"errors,omitempty"`
}

// response returns the response to a request that was served. No cache may keep it.
func (e *Endpoint) response(x *exchange) response {
	r := response{StatusCode: 200}
	r.Headers.ContentType, r.Headers.CacheControl = "application/json", "no-store"
	var body any = success{Token: x.Session.Token}
	if e.Config.ReturnInterviewID {
		body = success{x.Session.Token, x.Session.InterviewID}
	}
	if p := problemOf(x.err); p != nil {
		found, _ := errors.AsType[violations](x.err)
		body = failure{"/problems/" + p.Code, p, x.requestID, found}
		r.StatusCode, r.Headers.ContentType = p.Status, "application/problem+json"
		if p.Status == 503 {
			wait := min(max(x.Session.RetryAfter, time.Second), time.Minute)
			r.Headers.RetryAfter = strconv.Itoa(int(math.Ceil(wait.Seconds())))
		}
	}
	encoded, _ := json.Marshal(body) // cannot fail: body holds strings and numbers
	r.Body = string(encoded)
	return r
}

// problemOf returns nil for no error. It is the only place where an error becomes a status.
func problemOf(err error) *problem.Problem {
	if p, ok := errors.AsType[*problem.Problem](err); ok || err == nil {
		return p
	}
	return problem.Internal
}

// exchange is one request with its result, as the log line describes it.
type exchange struct {
	requestID, apiRequestID string // of Lambda, and of API Gateway

	authorizer   string // "jwt", "lambda" or "iam", or "" when the event has no authorizer context
	callerARN    string // of an IAM caller
	coldStart    bool   // the first request of the process
	keyRefreshed bool   // Incode refused the key, and the secret had a newer one

	// The time of the whole request, of waiting for the key, and of waiting for Incode, which is 0 when Incode was not
	// called.
	duration, secretTime, incodeTime time.Duration

	key     apikey.Key     // of the last attempt
	Session incode.Session // exported, because fmt would show the token of an unexported field
	err     error
}

// The metrics in the log line, in CloudWatch's embedded metric format: of every request, of a request that called
// Incode, and of a failed request. A second line for them would cost more, and a call to CloudWatch would cost the
// caller time. Each combination of dimension values is billed as one metric, so there are few dimensions.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
const (
	requestMetrics = `{"Namespace":"Omnistart","Dimensions":[["FunctionName"]],"Metrics":[` +
		`{"Name":"SessionsStarted","Unit":"Count"},{"Name":"ColdStarts","Unit":"Count"},` +
		`{"Name":"KeyRefreshes","Unit":"Count"},{"Name":"KeyLoads","Unit":"Count"},` +
		`{"Name":"KeyLoadFailures","Unit":"Count"},{"Name":"Overhead","Unit":"Milliseconds"}]}`
	incodeMetrics = `,{"Namespace":"Omnistart","Dimensions":[["FunctionName"]],"Metrics":[` +
		`{"Name":"IncodeLatency","Unit":"Milliseconds"}]}`
	failureMetrics = `,{"Namespace":"Omnistart","Dimensions":[["FunctionName"],["FunctionName","Code"]],"Metrics":[` +
		`{"Name":"Failures","Unit":"Count"}]}`
)

// logRequest writes the log line of a request. It has no key, no token, no customer ID, no request body and, apart
// from the interview ID, no text from Incode. It has the ARN of an IAM caller, because such a caller may name any
// customer.
func (e *Endpoint) logRequest(ctx context.Context, status int, x *exchange) {
	level := slog.LevelInfo
	code := cmp.Or(problemOf(x.err), &problem.Problem{Code: "ok"}).Code
	metrics := `{"Timestamp":` + strconv.FormatInt(time.Now().UnixMilli(), 10) + `,"CloudWatchMetrics":[` + requestMetrics
	attrs := append(make([]slog.Attr, 0, 25), // as many as there can be
		slog.String("apiRequestId", x.apiRequestID),
		slog.String("authorizer", x.authorizer),
		slog.String("callerArn", x.callerARN),
		slog.String("interviewId", x.Session.InterviewID),
		slog.Int("status", status), slog.String("code", code),
		slog.Float64("durationMs", milliseconds(x.duration)),
		slog.Float64("secretMs", milliseconds(x.secretTime)),
		slog.Bool("coldStart", x.coldStart),
		slog.String("FunctionName", lambdacontext.FunctionName),
		slog.Int("SessionsStarted", count[x.err == nil]),
		slog.Int("ColdStarts", count[x.coldStart]),
		slog.Int("KeyRefreshes", count[x.keyRefreshed]),
		slog.Int64("KeyLoads", e.Keys.Loads.Swap(0)),
		slog.Int64("KeyLoadFailures", e.Keys.Failures.Swap(0)),
		slog.String("keyVersion", x.key.Version()),
		slog.Float64("Overhead", milliseconds(x.duration-x.incodeTime)))
	if x.incodeTime > 0 {
		metrics += incodeMetrics
		attrs = append(attrs, slog.Float64("incodeMs", milliseconds(x.incodeTime)),
			slog.Float64("connectMs", milliseconds(x.Session.ConnectTime)),
			slog.Float64("IncodeLatency", milliseconds(x.incodeTime)), slog.Int("incodeStatus", x.Session.Status))
	}
	if x.err != nil {
		metrics += failureMetrics
		attrs = append(attrs, slog.String("Code", code), slog.Int("Failures", 1), slog.String("error", x.err.Error()))
	}
	if status >= 500 {
		level = slog.LevelError
	}
	attrs = append(attrs, slog.Any("_aws", json.RawMessage(metrics+"]}")))
	e.Log.LogAttrs(ctx, level, "request", attrs...)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// count is what a condition adds to a metric.
var count = map[bool]int{true: 1}
