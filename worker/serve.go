package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"registrar/activities"
	"registrar/config"
	"registrar/internal/confine"
	"registrar/internal/connection"
	"registrar/internal/telemetry"
	"registrar/workflows"
)

// serve connects, registers and works until ctx ends. Spans go to console where they are asked to.
func serve(ctx context.Context, s settings, environ []string, console io.Writer, logger *zap.Logger) error {
	roots, err := confine.Open(s.allowRoots, s.allowLinkTargets)
	if err != nil {
		return err
	}
	defer roots.Close()
	process := config.ProcessEnvironment(environ)
	options, err := connection.Options(variables(process))
	if err != nil {
		return err
	}
	options.Logger = log.NewStructuredLogger(slog.New(zapslog.NewHandler(logger.Core(), zapslog.WithName("temporal"))))
	options.Identity = identity()
	seen, err := newObservation(ctx, process, console, logger)
	if err != nil {
		return err
	}
	defer seen.stop()
	if err := seen.addTo(&options); err != nil {
		return err
	}
	workflows.CountFromZero(options.MetricsHandler, options.Namespace, s.taskQueue)
	counter := &census{log: logger}
	if err := seen.metrics.Register(counter); err != nil {
		return err
	}
	attributes := &searchAttributes{namespace: options.Namespace, log: logger}
	acts := &activities.Activities{
		Roots:            roots,
		Process:          process,
		TrustedHosts:     s.trustHosts,
		MinPolicy:        s.minPolicy(),
		Clients:          &activities.Clients{Timeouts: s.timeouts, UserAgent: "registrar/" + version, Observer: seen.mlflow()},
		Namespace:        options.Namespace,
		UIAddress:        s.uiAddress,
		SearchAttributes: attributes.present,
		ServerAttribute:  attributes.serverPresent,
		SettleTime:       s.settleTime,
		LookFor:          s.lookFor,
		PartBytes:        s.partBytes,
		WakesPerSecond:   s.wakesPerSecond,
	}
	logger.Info("worker starts",
		zap.String("version", version), zap.String("identity", options.Identity), zap.String("temporal", options.HostPort),
		zap.String("namespace", options.Namespace), zap.String("task_queue", s.taskQueue), zap.Strings("allow_root", s.allowRoots),
		zap.String("mlflow", mlflowOf(process)), zap.Bool("credentials", hasCredentials(process)))

	if len(s.unknown) > 0 {
		logger.Warn("variables that are no setting of the worker; see worker --help", zap.Strings("variables", s.unknown))
	}
	standing := &readiness{}
	if err := seen.metrics.Register(standing.gauge()); err != nil {
		return err
	}
	standing.unready("it has not reached Temporal at " + options.HostPort + " yet")
	stopHTTP, err := serveHTTP(ctx, s, standing, seen.metrics.Handler(), logger)
	if err != nil {
		return err
	}
	defer stopHTTP()
	stopProfiles, err := serveProfiles(ctx, s, logger)
	if err != nil {
		return err
	}
	defer stopProfiles()
	return untilShutdown(ctx, logger, options, standing, func(temporalClient client.Client) error {
		counter.connect(temporalClient)
		defer counter.connect(nil)
		return work(ctx, temporalClient, s, acts, attributes, standing, logger)
	})
}

// variables are the worker's environment, as Temporal's settings are read from it.
type variables map[string]string

// LookupEnv is one variable, and whether it is set.
func (v variables) LookupEnv(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

// Environ is all of them.
func (v variables) Environ() []string {
	var pairs []string
	for name, value := range v {
		pairs = append(pairs, name+"="+value)
	}
	return pairs
}

// untilShutdown keeps a worker going: it connects again for as long as Temporal, or the namespace, is not there.
func untilShutdown(ctx context.Context, logger *zap.Logger, options client.Options, standing *readiness, work func(client.Client) error) error {
	for {
		err := connected(ctx, options, work)
		if ctx.Err() != nil { // whatever err is: the SDK hides the cause of a connection that was given up
			logger.Info("worker stopped")
			return nil
		}
		if err != nil && !endsByItself(err) {
			return err
		}
		standing.unready("Temporal at " + options.HostPort + " does not answer")
		logger.Warn("Temporal does not answer; trying again in "+retryAfter.String(),
			zap.String("temporal", options.HostPort), zap.String("namespace", options.Namespace), zap.Error(err))
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
}

// retryAfter is the pause between two attempts to reach Temporal.
const retryAfter = 3 * time.Second

func connected(ctx context.Context, options client.Options, work func(client.Client) error) error {
	temporalClient, err := client.DialContext(ctx, options)
	if err != nil {
		return err
	}
	defer temporalClient.Close()
	return work(temporalClient)
}

// endsByItself tells whether Temporal, or its namespace, may come; a refused credential does not.
func endsByItself(err error) bool {
	var denied *serviceerror.PermissionDenied
	var invalid *serviceerror.InvalidArgument
	return !errors.As(err, &denied) && !errors.As(err, &invalid)
}

// stickyWorkflows is how many executions are kept in memory, at some 60 kB each. What waits is not worth it: ten thousand that wait for MLflow cost a
// worker no more than these, and one that is woken is replayed once. It is more than a worker has under way at a time.
const stickyWorkflows = 200

func work(ctx context.Context, temporalClient client.Client, s settings, acts *activities.Activities, attributes *searchAttributes,
	standing *readiness, logger *zap.Logger,
) error {
	attributes.ensure(ctx, temporalClient)
	fatal := make(chan error, 1)
	worker.SetStickyWorkflowCacheSize(stickyWorkflows)
	options := optionsFrom(s)
	options.OnFatalError = func(err error) { fatal <- err }
	w := worker.New(temporalClient, s.taskQueue, options)
	workflows.Register(w, acts)
	if err := w.Start(); err != nil {
		return err
	}
	standing.ready(polling(temporalClient, s.taskQueue))
	logger.Info("worker is ready", zap.String("task_queue", s.taskQueue))
	select {
	case err := <-fatal:
		return err
	case <-ctx.Done():
	}
	standing.unready("the worker stops")
	logger.Info("worker stops; steps under way may go on", zap.Duration("for_at_most", s.shutdownTimeout))
	w.Stop()
	return ctx.Err()
}

// optionsFrom are the SDK's options by which this worker keeps to its settings.
func optionsFrom(s settings) worker.Options {
	return worker.Options{
		WorkerStopTimeout: s.shutdownTimeout,
		// Without a bound the SDK holds heartbeats back for 0.8 of their timeout, 12 s here, and with them the news of a cancellation.
		MaxHeartbeatThrottleInterval:     activities.HeartbeatInterval,
		DefaultHeartbeatThrottleInterval: activities.HeartbeatInterval,
		DeploymentOptions:                deployment(s),
	}
}

// polling asks Temporal whether this worker takes tasks from its queue.
func polling(temporalClient client.Client, taskQueue string) func(context.Context) error {
	return func(ctx context.Context) error {
		queue, err := temporalClient.DescribeTaskQueue(ctx, taskQueue, enums.TASK_QUEUE_TYPE_WORKFLOW)
		if err != nil {
			return fmt.Errorf("ask Temporal for the pollers of task queue %s: %w", taskQueue, err)
		}
		for _, poller := range queue.GetPollers() {
			if poller.GetIdentity() == identity() {
				return nil
			}
		}
		return fmt.Errorf("task queue %s: Temporal has not seen this worker poll it yet", taskQueue)
	}
}

// deployment is this worker's place in Worker Versioning, where it is used. Registrations wait for weeks, and nobody keeps the workers of
// weeks ago running for them: they go on with the version that is current when they wake up. That is what the recorded histories, which
// each build has to replay, make safe.
func deployment(s settings) worker.DeploymentOptions {
	if s.deploymentName == "" {
		return worker.DeploymentOptions{}
	}
	return worker.DeploymentOptions{
		UseVersioning:             true,
		Version:                   worker.WorkerDeploymentVersion{DeploymentName: s.deploymentName, BuildID: s.buildID},
		DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
	}
}

// serveProfiles serves Go's profiles where that was asked for.
func serveProfiles(ctx context.Context, s settings, logger *zap.Logger) (stop func(), err error) {
	if s.pprofListen == "" {
		return func() {}, nil
	}
	at, stop, err := telemetry.ServeProfiles(ctx, s.pprofListen)
	if err != nil {
		return nil, fmt.Errorf("--pprof-listen: %w", err)
	}
	logger.Info("profiles are served", zap.String("pprof_listen", "http://"+at+"/debug/pprof/"))
	return stop, nil
}

// identity names this worker in Temporal's Web UI.
func identity() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("registrar-worker %d@%s", os.Getpid(), host)
}

// mlflowOf is where this worker's own variables say that MLflow is, for the log; a project's params.yaml may say otherwise.
func mlflowOf(process map[string]string) string {
	server, err := config.ResolveServer(config.Settings{}, "params.yaml", config.Environment{Process: process})
	if err != nil {
		return err.Error()
	}
	if server.Origin == config.OriginDefault {
		return "as each project's params.yaml says"
	}
	return server.URI
}

// hasCredentials tells whether this worker's own variables hold what lets it into MLflow.
func hasCredentials(process map[string]string) bool {
	for _, name := range []string{"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_TOKEN_FILE", "MLFLOW_TRACKING_CLIENT_CERT_PATH"} {
		if process[name] != "" {
			return true
		}
	}
	address, err := url.Parse(process["MLFLOW_TRACKING_URI"])
	return err == nil && address.User != nil
}
