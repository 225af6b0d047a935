package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"registrar/internal/connection"
)

// connectWithin is how long Temporal may take to answer before it counts as unreachable.
const connectWithin = 5 * time.Second

// errUnreachable says that Temporal does not answer: the registration is queued.
var errUnreachable = errors.New("temporal does not answer")

// connect reaches Temporal. The error is errUnreachable where it does not answer; every other one is a mistake in the settings.
func (s *starter) connect(ctx context.Context) (client.Client, error) {
	options, err := connection.Options(s)
	if err != nil {
		return nil, err
	}
	s.address, s.namespace = options.HostPort, options.Namespace
	// The SDK's own words would stand between the lines of the progress.
	options.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	if err := s.seen.addTo(&options); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	c, err := s.dial(within, options)
	if err == nil {
		return c, nil
	}
	if ctx.Err() == nil && isUnreachable(err) {
		return nil, s.unreachable(err)
	}
	return nil, fmt.Errorf("connect to Temporal at %s: %w", s.address, err)
}

// unreachable makes the error of a call the one that says that Temporal does not answer.
func (s *starter) unreachable(err error) error {
	if errors.Is(err, errUnreachable) {
		return err
	}
	return fmt.Errorf("%w at %s: %w", errUnreachable, s.address, err)
}

// isUnreachable tells whether the error is an outage, which ends by itself. What two sides say who do not agree on TLS is none.
func isUnreachable(err error) bool {
	if isHandshake(err) {
		return false
	}
	var unavailable *serviceerror.Unavailable
	var late *serviceerror.DeadlineExceeded
	return errors.Is(err, errUnreachable) || errors.As(err, &unavailable) || errors.As(err, &late) || errors.Is(err, context.DeadlineExceeded)
}

// isHandshake tells whether the error is one of crypto/tls or crypto/x509. gRPC hands on no more of them than their words.
func isHandshake(err error) bool {
	var unavailable *serviceerror.Unavailable
	if !errors.As(err, &unavailable) {
		return false
	}
	text := unavailable.Error()
	return strings.Contains(text, "handshake failed") && (strings.Contains(text, "tls: ") || strings.Contains(text, "x509: "))
}

// remedy is what to do about an error of Temporal; empty where the error says it all.
func (s *starter) remedy(err error) string {
	var namespace *serviceerror.NamespaceNotFound
	switch {
	case errors.As(err, &namespace):
		return fmt.Sprintf("set TEMPORAL_NAMESPACE to one that is there, or make it: temporal operator namespace create --namespace %s", namespace.Namespace)
	case isHandshake(err):
		return "set TEMPORAL_TLS, TEMPORAL_TLS_SERVER_CA_CERT_PATH, TEMPORAL_TLS_SERVER_NAME and TEMPORAL_TLS_CLIENT_CERT_PATH as the server has them"
	case isUnreachable(err):
		return "start it, or set TEMPORAL_ADDRESS to where it is"
	}
	return ""
}

func isNotFound(err error) bool {
	var notFound *serviceerror.NotFound
	return errors.As(err, &notFound)
}

// connected is a command that talks to Temporal.
func (s *starter) connected(do func(ctx context.Context, c client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		c, err := s.connect(command.Context())
		if err != nil {
			return err
		}
		defer c.Close()
		return do(command.Context(), c, args)
	}
}
