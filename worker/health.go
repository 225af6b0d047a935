package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthCommand asks a worker on this machine how it stands: for the health checks of images that have no shell.
func healthCommand(environ []string) *cobra.Command {
	var address string
	var ready bool
	command := &cobra.Command{
		Use:   "health",
		Short: "Ask the worker on this machine whether it lives, or takes work",
		Long:  "Asks the worker that listens on --http-listen whether it lives, or with --ready whether it takes work. Exits 0 where it says yes, else 1.",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := setFromVariables(command.Flags(), variablesOf(environ), "http-listen"); err != nil {
				return err
			}
			path := pathHealth
			if ready {
				path = pathReady
			}
			answer, err := ask(command.Context(), address, path)
			if err != nil {
				return failedError{err}
			}
			fmt.Fprintln(command.OutOrStdout(), answer)
			return nil
		},
	}
	command.Flags().StringVar(&address, "http-listen", defaultHTTPListen, "where the worker listens, as the worker itself was told")
	command.Flags().BoolVar(&ready, "ready", false, "ask whether it takes work, not only whether it lives")
	return command
}

// failedError is an error of what was asked for, not of how it was asked for.
type failedError struct{ error }

// healthWithin is how long a worker may take to answer. Its own time limit for Temporal is shorter.
const healthWithin = 5 * time.Second

// ask returns what the worker answers, or as an error what it answers with another status than 200.
func ask(ctx context.Context, listens, path string) (string, error) {
	if httpIsOff(listens) {
		return "", errors.New("ask worker: it was told to serve no health (--http-listen is empty)")
	}
	host, port, err := net.SplitHostPort(listens)
	if err != nil {
		return "", fmt.Errorf("ask worker: --http-listen %q: want host:port, such as %s", listens, defaultHTTPListen)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // it listens everywhere, here too
	}
	ctx, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return "", fmt.Errorf("ask worker: %w", err)
	}
	// Not the default client: a proxy for MLflow has nothing to do with this.
	response, err := (&http.Client{Transport: &http.Transport{}}).Do(request)
	if err != nil {
		return "", fmt.Errorf("ask worker: %w", err)
	}
	defer response.Body.Close()
	const enough = 4 << 10
	body, err := io.ReadAll(io.LimitReader(response.Body, enough))
	if err != nil {
		return "", fmt.Errorf("ask worker: %w", err)
	}
	answer := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask worker: %s: %s", response.Status, answer)
	}
	return answer, nil
}
