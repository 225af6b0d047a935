package servertest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MLflowOptions say how an MLflow server runs. The zero value is a server on a free port.
type MLflowOptions struct {
	Venv string    // Python virtual environment with mlflow; empty: .build/venv of the repository
	Dir  string    // folder of its database, artifacts and log; empty: the working folder; made where missing
	Port int       // 0: a free one
	S3   *S3Server // where its artifacts go; nil: a folder
	Env  []string  // further environment variables, as KEY=value; MLFLOW_ and AWS_ ones of the caller are not passed on
	Args []string  // further arguments of `mlflow server`
}

// MLflowServer is a running MLflow server with its database in an SQLite file and its artifacts in a folder or a bucket,
// which it serves itself (mlflow-artifacts:).
type MLflowServer struct {
	*server
	URI  string // tracking URI, without a slash at its end
	Dir  string // absolute folder of mlflow.db and, without S3, of artifacts
	Port int
}

// StartMLflow starts an MLflow server and returns when it reads its database, after five minutes at the latest. The
// server runs until it is stopped or the caller's process ends: ctx bounds only the start. A port that was asked for and
// is taken is an ErrPortTaken.
func StartMLflow(ctx context.Context, options MLflowOptions) (*MLflowServer, error) {
	if options.Venv == "" {
		options.Venv = filepath.Join(Root(), ".build", "venv")
	}
	if err := installed(options.executable(), "venv"); err != nil {
		return nil, fmt.Errorf("start mlflow: %w", err)
	}
	// The server runs in its folder, where a relative path would mean another file.
	var err error
	if options.Dir, err = filepath.Abs(options.Dir); err != nil {
		return nil, fmt.Errorf("start mlflow: %w", err)
	}
	if options.Venv, err = filepath.Abs(options.Venv); err != nil {
		return nil, fmt.Errorf("start mlflow: %w", err)
	}
	server, err := onFreePorts(ctx, []int{options.Port}, options.server)
	if err != nil {
		return nil, err
	}
	port := server.ports[0]
	return &MLflowServer{server: server, URI: "http://" + address(port), Dir: options.Dir, Port: port}, nil
}

func (o MLflowOptions) executable() string { return filepath.Join(o.Venv, "bin", "mlflow") }

func (o MLflowOptions) server(ports []int) *server {
	artifacts := filepath.Join(o.Dir, "artifacts")
	environment := Environment(
		[]string{"MLFLOW_", "AWS_"},
		"MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true",
		"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", // else a process more, that nothing here asks anything of
		"PYTHONUNBUFFERED=1",                       // else the last lines before a crash are missing in the log
	)
	if o.S3 != nil {
		artifacts = "s3://" + o.S3.Bucket
		environment = append(environment, o.S3.Variables()...)
	}
	arguments := []string{
		"server", "--host", "127.0.0.1", "--port", strconv.Itoa(ports[0]), "--workers", "1",
		"--backend-store-uri", "sqlite:///" + filepath.Join(o.Dir, "mlflow.db"),
		"--artifacts-destination", artifacts,
	}
	return &server{
		command: Command{
			Name: "mlflow",
			Path: o.executable(),
			Args: slices.Concat(arguments, o.Args),
			Dir:  o.Dir,
			Env:  append(environment, o.Env...),
			Log:  filepath.Join(o.Dir, "mlflow.log"),
		},
		ports: ports,
		ready: func(ctx context.Context) error { return mlflowReady(ctx, "http://"+address(ports[0])) },
	}
}

// mlflowReady asks for the version, and then for experiments: /health and /version answer also while the database is
// still migrated or locked. A refused search is an answer: a server with authentication is ready when it says 401.
func mlflowReady(ctx context.Context, uri string) error {
	if status, err := request(ctx, http.MethodGet, uri+"/version", ""); err != nil && status != http.StatusUnauthorized {
		return err
	}
	status, err := request(ctx, http.MethodPost, uri+"/api/2.0/mlflow/experiments/search", `{"max_results":1}`)
	if status == http.StatusUnauthorized {
		return nil
	}
	return err
}

func request(ctx context.Context, method, url, body string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, url, err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Close = true // an idle connection would keep a server that is to stop waiting
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		if err != nil {
			return response.StatusCode, fmt.Errorf("%s %s: read answer: %w", method, url, err)
		}
		return response.StatusCode, fmt.Errorf("%s %s: %s: %s", method, url, response.Status, text)
	}
	return response.StatusCode, nil
}
