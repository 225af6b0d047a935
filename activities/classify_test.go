package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"registrar/config"
	"registrar/internal/confine"
	"registrar/internal/failure"
	"registrar/internal/gate"
	"registrar/internal/mlflow"
	"registrar/internal/mlmodel"
	"registrar/internal/modelfile"
	"registrar/internal/snapshot"
)

func TestClassify_SaysWhatToDoAboutEachError(t *testing.T) {
	answer := func(status int, code string) error {
		return &mlflow.APIError{Method: "POST", Status: status, Code: code}
	}
	transport := func(layer mlflow.Layer, sent bool) error {
		return &mlflow.TransportError{Layer: layer, Sent: sent, Err: errors.New("cut")}
	}
	for name, test := range map[string]struct {
		err     error
		kind    string
		retried bool
		layer   string
		open    bool
	}{
		"refused connection":            {transport(mlflow.LayerTCP, false), failure.Outage, true, "tcp", false},
		"unknown host":                  {transport(mlflow.LayerDNS, false), failure.Outage, true, "dns", false},
		"certificate":                   {transport(mlflow.LayerTLS, false), failure.Outage, true, "tls", false},
		"no answer":                     {transport(mlflow.LayerHTTP, true), failure.Outage, true, "http", true},
		"500":                           {answer(500, "INTERNAL_ERROR"), failure.Outage, true, "http", true},
		"502 of a proxy":                {answer(502, ""), failure.Outage, true, "http", true},
		"503 of the database":           {answer(503, "TEMPORARILY_UNAVAILABLE"), failure.Outage, true, "database", true},
		"408":                           {answer(408, ""), failure.Outage, true, "http", true},
		"425":                           {answer(425, ""), failure.Outage, true, "http", false},
		"429":                           {answer(429, ""), failure.Outage, true, "http", false},
		"401":                           {answer(401, ""), failure.Unauthorized, false, "auth", false},
		"403":                           {answer(403, "PERMISSION_DENIED"), failure.Unauthorized, false, "auth", false},
		"400":                           {answer(400, "INVALID_PARAMETER_VALUE"), failure.Refused, false, "http", false},
		"413":                           {answer(413, ""), failure.Refused, false, "http", false},
		"404 of MLflow":                 {answer(404, "RESOURCE_DOES_NOT_EXIST"), failure.Gone, false, "http", false},
		"404 of a proxy":                {answer(404, ""), failure.Misdirected, false, "http", false},
		"redirect":                      {answer(308, ""), failure.Misdirected, false, "http", false},
		"workspaces are off":            {answer(500, "FEATURE_DISABLED"), failure.Configuration, false, "http", true},
		"artifact store":                {&artifactStoreError{answer(503, "")}, failure.Outage, true, "artifact_store", true},
		"artifact store refuses":        {&artifactStoreError{answer(403, "")}, failure.Unauthorized, false, "auth", false},
		"artifacts not proxied":         {mlflow.ErrArtifactsNotProxied, failure.Configuration, false, "", false},
		"setting":                       {&config.Error{Key: "min_roc_auc"}, failure.Configuration, false, "", false},
		"outside":                       {&confine.OutsideError{Path: "../x"}, failure.BadInput, false, "", false},
		"named pipe":                    {&confine.NotRegularError{Path: "x", Mode: fs.ModeNamedPipe}, failure.BadInput, false, "", false},
		"too large":                     {confine.ErrTooLarge, failure.BadInput, false, "", false},
		"changed copy as a body":        {&mlflow.TransportError{Layer: mlflow.LayerHTTP, Sent: true, Err: &snapshot.MismatchError{}}, failure.BadInput, false, "", false},
		"https to a server without":     {&mlflow.TransportError{Layer: mlflow.LayerTLS, Err: http.ErrSchemeMismatch}, failure.Misdirected, false, "tls", false},
		"another kind of server":        {answer(501, ""), failure.Misdirected, false, "http", true},
		"malformed registration folder": {&snapshot.InputError{}, failure.BadInput, false, "", false},
		"token file is absent":          {&mlflow.TransportError{Layer: mlflow.LayerAuth, Err: fs.ErrNotExist}, failure.Unauthorized, false, "auth", false},
		"changed copy":                  {&snapshot.MismatchError{}, failure.BadInput, false, "", false},
		"no model":                      {&modelfile.FormatError{}, failure.BadInput, false, "", false},
		"not packable":                  {mlmodel.ErrSpec, failure.BadInput, false, "", false},
		"no metrics":                    {&gate.FormatError{}, failure.BadInput, false, "", false},
		"absent file":                   {fs.ErrNotExist, failure.BadInput, false, "", false},
		"unreadable file":               {fs.ErrPermission, failure.BadInput, false, "", false},
		"deadline":                      {context.DeadlineExceeded, failure.Outage, true, "http", true},
		"incomplete upload":             {&incompleteUploadError{}, failure.Outage, true, "http", true},
		"displaced promotion":           {&displacedError{}, failure.Outage, true, "http", true},
		"version not ready":             {&notReadyError{}, failure.Outage, true, "http", true},
		"full disk":                     {errors.New("no space left on device"), failure.Unexpected, true, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := classify(t.Context(), fmt.Errorf("take a step: %w", test.err))

			var application *temporal.ApplicationError
			require.ErrorAs(t, err, &application)
			require.Equal(t, test.kind, application.Type())
			require.Equal(t, test.retried, !application.NonRetryable())
			require.Contains(t, application.Message(), "take a step: ")
			var detail failure.Detail
			require.NoError(t, application.Details(&detail))
			require.Equal(t, failure.Detail{Layer: test.layer, Open: test.open}, detail)
		})
	}
}

func TestClassify_LeavesAloneWhatIsClassified(t *testing.T) {
	require.NoError(t, classify(t.Context(), nil))
	application := temporal.NewApplicationError("said before", failure.Refused)
	require.Same(t, application, classify(t.Context(), application))
}

func TestClassify_TellsACancellationFromAWorkerThatStops(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.True(t, temporal.IsCanceledError(classify(canceled, canceled.Err())))

	stopping, stop := context.WithCancelCause(t.Context())
	stop(errWorkerStops)
	var application *temporal.ApplicationError
	require.ErrorAs(t, classify(stopping, stopping.Err()), &application)
	require.Equal(t, failure.Interrupted, application.Type())
	require.False(t, application.NonRetryable())
}

func TestClassify_TellsACancellationFromAHeartbeatThatWasNotTaken(t *testing.T) {
	for _, notTaken := range []error{serviceerror.NewUnavailable("no host"), serviceerror.NewDeadlineExceeded("in a second"), serviceerror.NewNotFound("no such attempt")} {
		ctx, end := context.WithCancelCause(t.Context())
		end(notTaken)
		for _, err := range []error{ctx.Err(), notTaken, &mlflow.TransportError{Layer: mlflow.LayerHTTP, Err: notTaken}} {
			var application *temporal.ApplicationError
			require.ErrorAs(t, classify(ctx, fmt.Errorf("send: %w", err)), &application)
			require.Equal(t, failure.Interrupted, application.Type())
			require.False(t, application.NonRetryable())
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(temporal.NewCanceledError())
	require.True(t, temporal.IsCanceledError(classify(ctx, ctx.Err())))
}

func TestClassify_RetriesWhenTheServerSaysSo(t *testing.T) {
	var application *temporal.ApplicationError
	require.ErrorAs(t, classify(t.Context(), &mlflow.APIError{Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Second}), &application)
	require.Equal(t, 7*time.Second, application.NextRetryDelay())

	require.ErrorAs(t, classify(t.Context(), &mlflow.APIError{Status: http.StatusServiceUnavailable, RetryAfter: 24 * time.Hour}), &application)
	require.Equal(t, time.Minute, application.NextRetryDelay(), "who waits for longer is to be seen waiting")
}
