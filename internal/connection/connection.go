// Package connection tells starter and worker how to reach Temporal, by the same variables and profile file. It knows nothing of what either does there.
package connection

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
)

// Options are those that the environment gives, by the names of Temporal's own tools, with address and namespace filled in. The error names what is
// wrong with them, and is no outage: it does not end by itself.
func Options(environment envconfig.EnvLookup) (client.Options, error) {
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{EnvLookup: environment})
	if err != nil {
		return options, fmt.Errorf("read Temporal's settings: %w", err)
	}
	if options.HostPort == "" {
		options.HostPort = client.DefaultHostPort
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	if problem := problem(options.HostPort); problem != "" {
		name := "TEMPORAL_ADDRESS"
		if given, _ := environment.LookupEnv(name); given == "" {
			name = "address in Temporal's profile file"
		}
		return options, fmt.Errorf("%s: %q %s: give host:port, such as %s", name, Shown(options.HostPort), problem, client.DefaultHostPort)
	}
	// A registration sends ten kilobytes in all. To compress them, as the SDK does unless told otherwise, takes megabytes and milliseconds.
	options.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	return options, nil
}

// problem says what keeps an address from being host:port; empty where nothing does. gRPC takes any text, and then fails for ever.
func problem(address string) string {
	if strings.Contains(address, "://") {
		return "has a scheme"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "is no address of a host and a port"
	}
	if host == "" || strings.ContainsAny(host, " \t/%@") {
		return "has no host"
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return "has no port"
	}
	return ""
}

// reservedPrefixes are those of names that the server has for partitions, and Temporal's SDKs for themselves; the worker's panics at one of its own.
var reservedPrefixes = []string{"/_sys/", "__temporal_"}

// CheckTaskQueue says what keeps a name from being that of a task queue.
func CheckTaskQueue(name string) error {
	if strings.TrimSpace(name) == "" {
		return errors.New("is empty: give the name that workers and starters share")
	}
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(name, prefix) {
			return fmt.Errorf("begins with %s, which Temporal keeps for itself: give another name", prefix)
		}
	}
	return nil
}

// Shown is an address as it may be shown, also one that is none: without what stands before an @, which may be a password, and without a query.
func Shown(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		address = "***" + address[at:]
	}
	if query := strings.IndexByte(address, '?'); query >= 0 {
		address = address[:query] + "?***"
	}
	return address
}
