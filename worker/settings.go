package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"registrar/activities"
	"registrar/internal/connection"
	"registrar/internal/mlflow"
	"registrar/internal/modelfile"
	"registrar/workflows"
)

// settings are the worker's flags.
type settings struct {
	allowRoots       []string
	allowLinkTargets []string
	trustHosts       []string
	minPicklePolicy  string
	allowGlobals     []string
	taskQueue        string
	uiAddress        string
	settleTime       time.Duration
	lookFor          time.Duration
	partBytes        int64
	wakesPerSecond   float64
	shutdownTimeout  time.Duration
	timeouts         mlflow.Timeouts
	httpListen       string // empty: nowhere
	httpListenGiven  bool   // by a flag or a variable
	pprofListen      string // empty: nowhere
	deploymentName   string // empty: without Worker Versioning
	buildID          string
	logFormat        string
	logLevel         string
	unknown          []string // variables that begin as ours and are none
	code             int      // what the command exits with when its usage was right
}

func (s *settings) addFlags(flags *pflag.FlagSet) {
	flags.StringSliceVar(&s.allowRoots, "allow-root", []string{"."}, "folder below which projects are served; may be repeated")
	flags.StringSliceVar(&s.allowLinkTargets, "allow-link-target", nil, "folder that links inside a project may point into, such as DVC's cache; may be repeated")
	flags.StringSliceVar(&s.trustHosts, "trust-host", nil, "host or host:port that may get the MLflow credentials though MLFLOW_TRACKING_URI does not name it; may be repeated")
	flags.StringVar(&s.minPicklePolicy, "min-pickle-policy", modelfile.PolicyOff, "the least that model files have to pass, whatever model_registration.pickle_policy says: off (no least), deny or strict")
	flags.StringSliceVar(&s.allowGlobals, "allow-global", nil, "name that --min-pickle-policy lets pass where the project's policy does, as starter inspect prints it; may be repeated")
	flags.StringVar(&s.taskQueue, "task-queue", workflows.TaskQueue, "Temporal task queue to serve")
	flags.StringVar(&s.uiAddress, "temporal-ui-url", "", "address of the Temporal Web UI, for the links in MLflow, such as http://localhost:8233")
	flags.DurationVar(&s.settleTime, "settle-time", 15*time.Minute, "how long after its attempt ended a request may still arrive at MLflow: proxies between must not hold one longer")
	flags.DurationVar(&s.lookFor, "look-for", 5*time.Second, "how long a version is looked for after a request whose outcome is unknown, at most "+maxLookFor.String())
	flags.Float64Var(&s.wakesPerSecond, "wakes-per-second", 5, "how many waiting registrations are let loose each second on an MLflow server that came back; each makes some 30 requests")
	flags.Int64Var(&s.partBytes, "part-size-bytes", activities.DefaultPartBytes, "size of the parts that a file of at least two goes up in, where MLflow's store takes parts; 0: never in parts")
	flags.DurationVar(&s.shutdownTimeout, "shutdown-timeout", 20*time.Second, "how long steps under way may go on after SIGTERM")
	flags.DurationVar(&s.timeouts.Dial, "mlflow-dial-timeout", 0, "time to connect to MLflow (default of the client where 0, as for the ones below)")
	flags.DurationVar(&s.timeouts.TLSHandshake, "mlflow-tls-timeout", 0, "time for the TLS handshake with MLflow")
	flags.DurationVar(&s.timeouts.ResponseHeader, "mlflow-response-timeout", 0, "time for MLflow's answer to begin once the request is sent; MLflow itself takes 20 s to say that its database is locked")
	flags.DurationVar(&s.timeouts.UploadResponse, "mlflow-upload-timeout", 0, "time for MLflow's answer to begin once a file is uploaded; a server in front of a bucket passes the file on first")
	flags.DurationVar(&s.timeouts.Stall, "mlflow-stall-timeout", 0, "time that an upload or an answer may make no progress")
	flags.DurationVar(&s.timeouts.User, "mlflow-user-timeout", 0, "time that what was sent may stay unacknowledged by the other machine (TCP_USER_TIMEOUT, on Linux)")
	flags.StringVar(&s.httpListen, "http-listen", defaultHTTPListen, "where /healthz, /readyz and /metrics are served; empty or off: nowhere")
	flags.StringVar(&s.pprofListen, "pprof-listen", "", "loopback address where Go's profiles are served below /debug/pprof/, such as 127.0.0.1:6060; empty: nowhere")
	flags.StringVar(&s.deploymentName, "deployment-name", "", "worker deployment that this worker is of, for Temporal's Worker Versioning; empty: without")
	flags.StringVar(&s.buildID, "build-id", version, "which build of the deployment this worker is")
	flags.StringVar(&s.logFormat, "log-format", "console", "console or json")
	flags.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
}

// fromVariables sets each flag that was not given from its REGISTRAR_ variable.
func (s *settings) fromVariables(flags *pflag.FlagSet, environ []string) error {
	values := variablesOf(environ)
	s.unknown = unknownVariables(flags, values)
	s.httpListenGiven = flags.Changed("http-listen") || values[variable("http-listen")] != ""
	if err := setFromVariables(flags, values); err != nil {
		return err
	}
	return s.check()
}

func variablesOf(environ []string) map[string]string {
	values := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	return values
}

// isSetting tells a flag of ours from --help and --version, which cobra adds.
func isSetting(flag *pflag.Flag) bool {
	return len(flag.Annotations[cobra.FlagSetByCobraAnnotation]) == 0
}

// setFromVariables sets the flags of these names, or all, that were not given.
func setFromVariables(flags *pflag.FlagSet, values map[string]string, names ...string) error {
	var failed error
	flags.VisitAll(func(flag *pflag.Flag) {
		name := variable(flag.Name)
		value := values[name]
		if !isSetting(flag) || flag.Changed || value == "" || failed != nil || len(names) > 0 && !slices.Contains(names, flag.Name) {
			return
		}
		if err := flag.Value.Set(value); err != nil {
			failed = fmt.Errorf("%s=%q: %w", name, value, err)
		}
	})
	return failed
}

// httpIsOff tells whether an address says that nothing is served. A variable that is empty counts as not set, hence the word.
func httpIsOff(listen string) bool { return listen == "" || listen == "off" }

// maxWakesPerSecond is more than any Temporal server takes signals at.
const maxWakesPerSecond = 10_000

// maxLookFor leaves room in the minute that the step has (callTimeout in workflows/options.go): it goes on for up to a quarter longer, and MLflow's last
// answer may take 20 s. A step that is out of time looks again, for ever.
const maxLookFor = 30 * time.Second

// What S3 takes as a part that is not the last one.
const (
	minPartBytes = 5 << 20
	maxPartBytes = 5 << 30
)

// check judges the values, whichever way they came.
func (s *settings) check() error {
	if err := connection.CheckTaskQueue(s.taskQueue); err != nil {
		return fmt.Errorf("--task-queue %q: %w", s.taskQueue, err)
	}
	if !(s.wakesPerSecond > 0 && s.wakesPerSecond <= maxWakesPerSecond) { // NaN is neither
		return fmt.Errorf("--wakes-per-second %v: want more than 0 and at most %d", s.wakesPerSecond, maxWakesPerSecond)
	}
	if s.partBytes != 0 && (s.partBytes < minPartBytes || s.partBytes > maxPartBytes) {
		return fmt.Errorf("--part-size-bytes %d: want %d to %d, which is what S3 takes, or 0 for none", s.partBytes, minPartBytes, int64(maxPartBytes))
	}
	for name, value := range map[string]time.Duration{
		"settle-time": s.settleTime, "look-for": s.lookFor, "shutdown-timeout": s.shutdownTimeout,
	} {
		if value <= 0 {
			return fmt.Errorf("--%s %s: want a duration above 0, such as 15s", name, value)
		}
	}
	if s.lookFor > maxLookFor {
		return fmt.Errorf("--look-for %s: want at most %s: the step that looks has a minute", s.lookFor, maxLookFor)
	}
	for name, value := range map[string]time.Duration{
		"dial": s.timeouts.Dial, "tls": s.timeouts.TLSHandshake, "response": s.timeouts.ResponseHeader, "upload": s.timeouts.UploadResponse,
		"stall": s.timeouts.Stall, "user": s.timeouts.User,
	} {
		if value < 0 {
			return fmt.Errorf("--mlflow-%s-timeout %s: want a duration above 0, such as 15s, or 0 for the default", name, value)
		}
	}
	if !slices.Contains(modelfile.Policies, s.minPicklePolicy) {
		return fmt.Errorf("--min-pickle-policy %q: want off, deny or strict", s.minPicklePolicy)
	}
	if len(s.allowGlobals) > 0 && s.minPicklePolicy == modelfile.PolicyOff {
		return errors.New("--allow-global lets nothing pass without --min-pickle-policy: give that too, or let projects have the name in model_registration.allowed_globals")
	}
	for _, host := range s.trustHosts {
		if strings.ContainsAny(host, "/@ ") {
			return fmt.Errorf("--trust-host %q: want a host, or a host and a port, such as mlflow.example.com or mlflow:5000", host)
		}
	}
	if s.uiAddress != "" && !isPublicAddress(s.uiAddress) {
		return fmt.Errorf("--temporal-ui-url %q: want an address such as http://localhost:8233, without user and password: it stands in MLflow", connection.Shown(s.uiAddress))
	}
	s.uiAddress = strings.TrimRight(s.uiAddress, "/")
	if httpIsOff(s.httpListen) {
		s.httpListen = ""
	} else if _, _, err := net.SplitHostPort(s.httpListen); err != nil {
		return fmt.Errorf("--http-listen %q: want host:port, such as %s, or off", s.httpListen, defaultHTTPListen)
	}
	if s.deploymentName != "" && strings.ContainsAny(s.deploymentName, deploymentDelimiters) {
		return fmt.Errorf("--deployment-name %q: want a name without any of %q, which Temporal keeps for itself", s.deploymentName, deploymentDelimiters)
	}
	if s.deploymentName != "" && s.buildID == "" {
		return errors.New("--build-id is empty: want which build of the deployment this worker is, such as its version")
	}
	return nil
}

// minPolicy is the least that files have to pass which a consumer loads; nil for nothing.
func (s *settings) minPolicy() *modelfile.Policy {
	if s.minPicklePolicy == modelfile.PolicyOff {
		return nil
	}
	return &modelfile.Policy{Mode: s.minPicklePolicy, Allowed: s.allowGlobals}
}

// deploymentDelimiters stand between the name of a deployment and a build id.
const deploymentDelimiters = ".:"

// isPublicAddress tells whether everybody may see the address of a web page.
func isPublicAddress(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == ""
}

// unknownVariables are misspelt ones, and those of the tests.
func unknownVariables(flags *pflag.FlagSet, values map[string]string) []string {
	known := map[string]bool{}
	flags.VisitAll(func(flag *pflag.Flag) { known[variable(flag.Name)] = isSetting(flag) })
	var unknown []string
	for name := range values {
		if strings.HasPrefix(name, "REGISTRAR_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// variable is the environment variable of a flag: --allow-root is REGISTRAR_ALLOW_ROOT.
func variable(flag string) string {
	return "REGISTRAR_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (s *settings) logger(stderr io.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(s.logLevel)
	if err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", s.logLevel)
	}
	sink := zapcore.Lock(zapcore.AddSync(stderr))
	switch s.logFormat {
	case "json":
		encoding := zap.NewProductionEncoderConfig()
		encoding.TimeKey, encoding.EncodeTime = "time", zapcore.RFC3339TimeEncoder
		return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoding), sink, level)), nil
	case "console":
		encoding := zap.NewDevelopmentEncoderConfig()
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
		return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(encoding), sink, level)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want console or json", s.logFormat)
}
