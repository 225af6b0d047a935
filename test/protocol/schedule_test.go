// Package protocol checks the exactly-once protocol of docs/reliability.md: the real workflows and activities run against the
// fake MLflow in virtual time, while a schedule loses answers, delays requests, freezes attempts, and cancels, terminates and repeats
// registrations. A schedule is data: rapid makes it up and shrinks it, and an example writes it down.
//
// It knows Temporal by the SDK's test environment only: no server, no history, no worker.
package protocol

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// schedule is one case: who registers, and what befalls them. What it does not mention takes its usual course: one registration after the
// other, a promotion as soon as it is asked for, a registration that is started again before the sweep of the one before.
type schedule struct {
	Cast cast
	// Again is how often A starts its registration again, under the same workflow id, once the execution before has closed.
	Again int
	// ByTurns lets all who can move do so by turns, a request each, instead of one after the other.
	ByTurns bool
	// Unlimited lifts the bound on delays: what was given up may still arrive after the settle time.
	Unlimited bool
	// Old makes the server one without logged models, as MLflow 2 is.
	Old    bool
	Events []event
}

// cast is who takes part.
type cast string

const (
	one           cast = "A registers a model"
	twoNamespaces cast = "A and B register the same model from two namespaces"
	twoModels     cast = "A and B register two models under one name"
	threeModels   cast = "A, B and C register three models under one name"
)

// event is something that happens instead of the usual course.
type event struct {
	Do action
	At moment
	// Until is when a request that was held up arrives, or an attempt that was given up, or only stopped, goes on.
	Until moment
}

// action is what happens to a request, to the attempt that sends it, or to its registration.
type action string

const (
	lose      action = "lose the answer of"
	drop      action = "drop"
	delay     action = "delay"               // not applied now, the sender does not know; applied at Until
	freeze    action = "freeze before"       // Temporal gives the attempt up and starts another; it goes on at Until
	pause     action = "pause before"        // as slow as can be, but in time: it goes on at Until
	crash     action = "crash at the end of" // the result of the attempt that sends the request is not recorded
	cancel    action = "cancel before"       // a request of an upload that is cut off arrives at Until
	terminate action = "terminate before"    // the attempt goes on at Until
	remove    action = "a person deletes the returned version before"
	adopt     action = "a person sets an alias on an unreturned version before"
)

// moment is the Nth time that Who is about to send a request; whoever, where Who is empty. Names of zombies begin with "zombie ".
type moment struct {
	Who     string
	Request string
	Nth     int
}

// The moments that are no request of anyone.
var (
	// never: it is lost, or dies, in the end.
	never = moment{Request: "never"}
	// last is when a request, or an attempt, of which nothing was known for the settle time would die; without a sweep, the end.
	last = moment{Request: "the last moment"}
)

// before is the first time that who sends a request.
func before(who, request string) moment { return moment{who, request, 1} }

func (m moment) matches(who, request string) bool {
	return m.Request == request && (m.Who == "" || m.Who == who)
}

func (m moment) String() string {
	if m == never || m == last {
		return m.Request
	}
	who := m.Who
	if who == "" {
		who = "whoever"
	}
	return fmt.Sprintf("%s sends %s (%d)", who, m.Request, m.Nth)
}

func (e event) String() string {
	text := fmt.Sprintf("%s %s", e.Do, e.At)
	if e.Until != (moment{}) {
		text += fmt.Sprintf(", until %s", e.Until)
	}
	return text
}

func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d times again", s.Cast, s.Again)
	if s.ByTurns {
		b.WriteString(", by turns")
	}
	if s.Unlimited {
		b.WriteString(", without a bound on delays")
	}
	if s.Old {
		b.WriteString(", on MLflow 2")
	}
	for _, e := range s.Events {
		fmt.Fprintf(&b, "\n  %s", e)
	}
	return b.String()
}

// changes are the requests that change something, in the order in which a registration sends them, and those of its sweep.
var changes = []string{
	"runs/create", "runs/log-batch", "logged-models/create", "runs/outputs", "logged-models/finalize", "model-versions/create",
	"runs/log-parameter", "model-versions/transition-stage", "registered-models/alias", "runs/update", "model-versions/set-tag",
	"logged-models/delete", "model-versions/delete", "runs/delete",
}

// looks are the requests that change nothing.
var looks = []string{
	"model-versions/search", "runs/search", "logged-models/search", "runs/get", "model-versions/get", "registered-models/get-alias",
}

// schedules makes up what the model explored: up to four events, one cancellation, and terminations of what is started again.
func schedules() *rapid.Generator[schedule] {
	return rapid.Custom(func(t *rapid.T) schedule {
		s := schedule{Cast: rapid.SampledFrom([]cast{one, one, one, twoNamespaces, twoModels, threeModels}).Draw(t, "cast")}
		s.Again = rapid.IntRange(0, 2).Draw(t, "again")
		s.ByTurns = rapid.Bool().Draw(t, "by turns")
		s.Old = s.Cast == one && s.Again == 0 && rapid.IntRange(0, 5).Draw(t, "old") == 5
		s.Unlimited = !s.Old && rapid.IntRange(0, 3).Draw(t, "unlimited") == 3
		actions := []action{lose, drop, delay, delay, freeze, freeze, pause, crash}
		if !s.Old {
			actions = append(actions, cancel, terminate)
		}
		if s.Cast == one && !s.Old {
			actions = append(actions, remove, adopt)
		}
		s.Events = rapid.SliceOfN(events(s, actions), 0, 4).Draw(t, "events")
		return s
	})
}

func events(s schedule, actions []action) *rapid.Generator[event] {
	return rapid.Custom(func(t *rapid.T) event {
		e := event{Do: rapid.SampledFrom(actions).Draw(t, "do")}
		requests := changes
		if e.Do != lose && e.Do != drop && e.Do != delay {
			requests = append(append([]string{}, changes...), looks...)
		}
		e.At = moments(s, requests).Draw(t, "at")
		switch e.Do {
		case delay, freeze, pause, cancel, terminate:
			e.Until = rapid.OneOf(
				rapid.Just(last), rapid.Just(never),
				moments(s, append(append([]string{}, changes...), looks...)),
				moments(s, changes),
			).Draw(t, "until")
		}
		return e
	})
}

func moments(s schedule, requests []string) *rapid.Generator[moment] {
	names := []string{"", "A1", "promoter"}
	if s.Cast != one {
		names = append(names, "B1")
	}
	for n := range s.Again {
		names = append(names, fmt.Sprintf("A%d", n+2))
	}
	for n := range s.Again + 1 {
		names = append(names, fmt.Sprintf("sweep A%d", n+1))
	}
	return rapid.Custom(func(t *rapid.T) moment {
		return moment{
			Who:     rapid.SampledFrom(names).Draw(t, "who"),
			Request: rapid.SampledFrom(requests).Draw(t, "request"),
			Nth:     rapid.IntRange(1, 3).Draw(t, "nth"),
		}
	})
}
