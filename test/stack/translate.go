// Package stack runs docker-compose.yml without Docker: each service by the program that its image holds, built or installed here,
// with the command, the variables, the files, the health check and the place in the start order that the file gives it. What the file
// calls by a service's name and a container's port is translated to the loopback address and a free port.
//
// Not run: the Web UIs of Temporal and Grafana, which no registry has as a program.
package stack

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// translation is from what is true in a container to what is true here.
type translation struct {
	services []string
	ports    map[string]int    // of a container, each of one service alone: to that of this machine
	volumes  map[string]string // named ones: to a folder
}

// address is a service, or whatever a container calls itself, with a port.
var address = regexp.MustCompile(`([a-z0-9.-]+):([0-9]+)`)

// Whose value is a host, or a port, alone.
var (
	hostName = regexp.MustCompile(`(?i)(host|seeds|on_ip)=$`)
	portName = regexp.MustCompile(`(?i)port=$`)
)

// setting translates a variable, or a flag with its value, `NAME=value`, and the addresses in any other text.
func (t translation) setting(pair string) string {
	end := strings.Index(pair, "=") + 1
	name, value := pair[:end], pair[end:]
	switch {
	case hostName.MatchString(name) && t.isHost(value):
		return name + "127.0.0.1"
	case portName.MatchString(name) && t.ports[value] != 0:
		return name + strconv.Itoa(t.ports[value])
	}
	return address.ReplaceAllStringFunc(pair, func(found string) string {
		host, port, _ := strings.Cut(found, ":")
		if t.isHost(host) && t.ports[port] != 0 {
			return "127.0.0.1:" + strconv.Itoa(t.ports[port])
		}
		return found
	})
}

func (t translation) isHost(word string) bool {
	return slices.Contains(t.services, word) || slices.Contains([]string{"0.0.0.0", "127.0.0.1", "localhost"}, word)
}

// path translates a path below something that a service mounts; others stay.
func (t translation) path(of types.ServiceConfig, path string) string {
	for _, volume := range of.Volumes {
		source := volume.Source
		if volume.Type == types.VolumeTypeVolume {
			source = t.volumes[volume.Source]
		}
		if below, found := strings.CutPrefix(path, volume.Target); found && (below == "" || below[0] == '/') {
			return source + below
		}
	}
	return path
}

// arguments translates a command line.
func (t translation) arguments(of types.ServiceConfig, command []string) []string {
	translated := make([]string, len(command))
	for i, argument := range command {
		flag, path, isPath := strings.Cut(argument, "=/")
		switch {
		case t.ports[argument] != 0:
			translated[i] = strconv.Itoa(t.ports[argument])
		case isPath:
			translated[i] = flag + "=" + t.path(of, "/"+path)
		default:
			translated[i] = t.setting(t.path(of, argument))
		}
	}
	return translated
}

// variables translates the environment of a service.
func (t translation) variables(of types.ServiceConfig) []string {
	var pairs []string
	for name, value := range of.Environment {
		if value != nil {
			pairs = append(pairs, t.setting(name+"="+*value))
		}
	}
	slices.Sort(pairs)
	return pairs
}
