package servertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// S3Options say how an S3 server runs. The zero value is a server on a free port.
type S3Options struct {
	Binary string // the versitygw executable; empty: bin/versitygw of the repository
	Dir    string // folder of its buckets and log; empty: the working folder; made where missing
	Port   int    // 0: a free one
}

// S3Server is a running S3 server (versitygw) that keeps its objects as files, and one empty bucket.
type S3Server struct {
	*server
	Endpoint  string // such as http://127.0.0.1:7070
	Bucket    string // "mlflow"
	AccessKey string // made anew for each server, and the only one that it accepts
	SecretKey string
	Dir       string // absolute folder of buckets/<bucket>/<key of the object>
	Port      int
}

const (
	s3Bucket = "mlflow"
	s3Region = "us-east-1" // versitygw's default; a signature names it
	s3Health = "/health"
)

// StartS3 starts an S3 server, makes its bucket, and returns then. The server runs until it is stopped or the caller's
// process ends: ctx bounds only the start. A port that was asked for and is taken is an ErrPortTaken.
func StartS3(ctx context.Context, options S3Options) (*S3Server, error) {
	if options.Binary == "" {
		options.Binary = filepath.Join(Root(), "bin", "versitygw")
	}
	if err := installed(options.Binary, "tools"); err != nil {
		return nil, fmt.Errorf("start s3: %w", err)
	}
	var err error
	if options.Dir, err = filepath.Abs(options.Dir); err != nil {
		return nil, fmt.Errorf("start s3: %w", err)
	}
	for _, folder := range []string{options.buckets(), options.metadata()} {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			return nil, fmt.Errorf("start s3: %w", err)
		}
	}
	s3 := &S3Server{Bucket: s3Bucket, AccessKey: rand.Text(), SecretKey: rand.Text(), Dir: options.Dir}
	s3.server, err = onFreePorts(ctx, []int{options.Port}, func(ports []int) *server { return options.server(ports, s3) })
	if err != nil {
		return nil, err
	}
	s3.Port = s3.ports[0]
	s3.Endpoint = "http://" + address(s3.Port)
	if err := s3.makeBucket(ctx); err != nil {
		s3.Stop()
		return nil, fmt.Errorf("start s3: %w", err)
	}
	return s3, nil
}

func (o S3Options) buckets() string { return filepath.Join(o.Dir, "buckets") }

// metadata is apart from the objects: by itself versitygw keeps it in extended attributes, which not every file system has.
func (o S3Options) metadata() string { return filepath.Join(o.Dir, "metadata") }

func (o S3Options) server(ports []int, s3 *S3Server) *server {
	return &server{
		command: Command{
			Name: "s3",
			Path: o.Binary,
			Args: []string{"posix", "--sidecar", o.metadata(), o.buckets()},
			Dir:  o.Dir,
			Env: Environment(
				[]string{"VGW_", "AWS_"},
				"VGW_PORT=127.0.0.1:"+strconv.Itoa(ports[0]), "VGW_HEALTH="+s3Health, "VGW_REGION="+s3Region,
				"ROOT_ACCESS_KEY="+s3.AccessKey, "ROOT_SECRET_KEY="+s3.SecretKey,
			),
			Log: filepath.Join(o.Dir, "s3.log"),
		},
		ports: ports,
		ready: func(ctx context.Context) error {
			_, err := request(ctx, http.MethodGet, "http://"+address(ports[0])+s3Health, "")
			return err
		},
	}
}

// Variables are those by which boto3, and so MLflow, finds the server and its keys, each as KEY=value.
func (s *S3Server) Variables() []string {
	return []string{
		"MLFLOW_S3_ENDPOINT_URL=" + s.Endpoint, "AWS_DEFAULT_REGION=" + s3Region,
		"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
	}
}

// makeBucket runs the script by which docker-compose.yml makes its bucket.
func (s *S3Server) makeBucket(ctx context.Context) error {
	python := filepath.Join(Root(), ".build", "venv", "bin", "python")
	if err := installed(python, "venv"); err != nil {
		return err
	}
	script := exec.CommandContext(ctx, python, filepath.Join(Root(), "deploy", "mlflow", "bucket.py"))
	script.Env = Environment([]string{"MLFLOW_", "AWS_"}, append(s.Variables(), "MLFLOW_BUCKET="+s.Bucket)...)
	if output, err := script.CombinedOutput(); err != nil {
		return fmt.Errorf("run deploy/mlflow/bucket.py: %w\n%s", err, output)
	}
	return nil
}
