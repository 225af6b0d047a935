package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof" // its handlers are on http.DefaultServeMux too, which nothing here serves
	"strconv"
	"strings"
	"time"
)

// ServeProfiles serves Go's profiles below /debug/pprof/ on a loopback address, and returns where. They show what is in memory: whoever
// is not on this machine has no business with them. stop ends it.
func ServeProfiles(ctx context.Context, address string) (at string, stop func(), err error) {
	listener, err := ListenOnLoopback(ctx, address)
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: onlyForLoopback(mux), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }() // always ends with an error: that of stop
	return listener.Addr().String(), func() { _ = server.Close() }, nil
}

// ListenOnLoopback listens on host:port, where host is an address of this machine that no other can reach, or a name of it.
func ListenOnLoopback(ctx context.Context, address string) (net.Listener, error) {
	resolved, err := Loopback(ctx, address)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", resolved) // the address that was looked at, not the name again
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}

// Loopback is host:port with the address of the host. The error says that the address is wrong; whether it is free is not looked at.
func Loopback(ctx context.Context, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("listen on %q: want host:port, such as 127.0.0.1:6060", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("listen on %q: want a port up to 65535, such as 6060", address)
	}
	addresses, err := new(net.Resolver).LookupIPAddr(ctx, host)
	if err != nil || len(addresses) == 0 {
		return "", fmt.Errorf("listen on %s: %w", address, errors.Join(errNotLoopback, err))
	}
	for _, found := range addresses {
		if !found.IP.IsLoopback() {
			return "", fmt.Errorf("listen on %s: %w", address, errNotLoopback)
		}
	}
	return net.JoinHostPort(addresses[0].IP.String(), port), nil
}

var errNotLoopback = errors.New("profiles are served on loopback only: give 127.0.0.1, ::1 or localhost, and reach them from elsewhere through a tunnel")

// onlyForLoopback refuses requests whose Host is another name: a page in this machine's browser may have a name of its own point here.
func onlyForLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(r.Host); err == nil {
			host = name
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "profiles are for this machine alone", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
