package servertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// ErrPortTaken says that something else listens on the port that a server was to have.
var ErrPortTaken = errors.New("port is taken")

// Free ports are looked for below the range from which kernels give outgoing connections theirs (Linux from 32768, macOS
// from 49152). Within it, a client that retries a stopped server's port can be given that very port as its own end,
// connects to itself, and keeps the server from coming back.
const lowestPort, highestPort = 20000, 32767

// FreePort returns a port of 127.0.0.1 on which nothing listens. Nothing reserves it: another process may take it before
// the caller does.
func FreePort() (int, error) {
	const tries = 100
	for range tries {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1)
		if !portTaken(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: none of %d tried between %d and %d is free", tries, lowestPort, highestPort)
}

// PortOr returns the preferred port, or a free one where it is taken, and says which of the two it is.
func PortOr(preferred int) (port int, taken bool, err error) {
	if !portTaken(preferred) {
		return preferred, false, nil
	}
	port, err = FreePort()
	return port, true, err
}

func portTaken(port int) bool {
	listener, err := net.Listen("tcp", address(port)) //nolint:noctx // a loopback address, nothing is looked up
	if err != nil {
		return true
	}
	return listener.Close() != nil
}

func address(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
