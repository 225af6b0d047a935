package protocol

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"registrar/internal/mlflow/mlflowtest"
	"registrar/workflows"
)

// next is who moves next; nil at rest.
func (w *world) next() *parking {
	for len(w.urgent) > 0 {
		if p := w.urgent[len(w.urgent)-1](); p != nil {
			return p
		}
		w.urgent = w.urgent[:len(w.urgent)-1]
	}
	for _, first := range []func(*parking) bool{
		func(p *parking) bool { return p.actor.kind == workflows.TypeSweep && p.at == atStart },
		func(p *parking) bool { return p.actor.kind == workflows.TypePromoteVersions },
		func(p *parking) bool { return p.actor.kind == workflows.TypeRegisterModel },
		func(*parking) bool { return true },
	} {
		if p := w.find(func(p *parking) bool { return first(p) && w.isReady(p) }); p != nil {
			return p
		}
	}
	if w.startAgain() {
		return w.next()
	}
	if p := w.find(func(p *parking) bool { return p.at == atSettle }); p != nil {
		return p
	}
	if w.goOn(func(h *held) bool { return !h.mayDie() }) || w.expire(w.step) {
		return w.next()
	}
	return nil
}

func (w *world) find(wanted func(*parking) bool) *parking {
	if w.schedule.ByTurns {
		if i := slices.IndexFunc(w.parked, wanted); i >= 0 {
			return w.parked[i]
		}
		return nil
	}
	for _, a := range w.actors {
		if i := slices.IndexFunc(w.parked, func(p *parking) bool { return p.actor == a && wanted(p) }); i >= 0 {
			return w.parked[i]
		}
	}
	return nil
}

// isReady tells of an actor that nothing keeps from moving.
func (w *world) isReady(p *parking) bool {
	_, answered := w.replies[p.actor.execution]
	isHeld := slices.ContainsFunc(w.held, func(h *held) bool { return h.parking == p })
	return p.at != atSettle && (p.at != atAnswer || answered) && !isHeld
}

// startAgain starts A's registration again where its turn has come.
func (w *world) startAgain() bool {
	count := 0
	for _, a := range w.actors {
		if a.execution.ID == "register/A" && a.kind == workflows.TypeRegisterModel {
			count++
			if !a.ended {
				return false
			}
		}
	}
	if count > w.schedule.Again {
		return false
	}
	w.register("A", count+1)
	return true
}

// move lets one go on to its next request, unless an event befalls it.
func (w *world) move(p *parking) error {
	switch {
	case p.at == atSettle && !w.schedule.Unlimited && w.expire(p.since):
		return w.violated
	case !p.isRequest():
		w.grant(p, mlflowtest.Fault{})
		return w.violated
	}
	if !p.arrived {
		p.arrived = true
		waits := w.goOn(func(h *held) bool {
			if h.parking.attempt == p.attempt || !h.until.matches(p.name(), p.at) {
				return false
			}
			h.seen++
			return h.seen == h.until.Nth
		})
		for _, e := range w.events {
			if e.At.matches(p.name(), p.at) {
				if e.seen++; e.seen == e.At.Nth {
					p.events = append(p.events, e.event)
				}
			}
		}
		if waits {
			return w.violated
		}
	}
	fault := mlflowtest.Fault{}
	for len(p.events) > 0 {
		e := p.events[0]
		p.events = p.events[1:]
		switch e.Do {
		case lose:
			fault = mlflowtest.Fault{AfterApply: true, Drop: true}
		case drop:
			fault = cut
		case delay:
			w.hold(&held{parking: p, late: true, until: e.Until})
			fault = cut
		default:
			w.note("%s", e)
			if goesOn := w.befall(p, e); !goesOn {
				return w.violated
			}
		}
	}
	w.send(p, fault)
	return w.violated
}

// send lets the request of a parked attempt be served.
func (w *world) send(p *parking, fault mlflowtest.Fault) {
	text := ""
	switch {
	case fault.AfterApply:
		text = ", applied, answer lost"
	case fault.Drop:
		text = ", not applied, outcome open"
	}
	w.note("%s: %s %d sends %s %s%s", p.name(), p.attempt.activity, p.attempt.number, p.at, w.brief(p.request), text)
	w.grant(p, fault)
	w.observe(p.actor.owner())
}

// observe looks what has changed by an owner's request, and judges it.
func (w *world) observe(owner string) {
	before := w.now
	w.now = look(w.server)
	if text := w.names.describe(w.now); text != w.names.describe(before) {
		fmt.Fprintf(&w.trace, "        %s\n", text)
	}
	if err := w.judge.changed(before, w.now, owner); err != nil && w.violated == nil {
		w.violated = err
	}
}

// rest judges the end.
func (w *world) rest() error {
	if len(w.parked) > 0 {
		return fmt.Errorf("P5: %s waits for ever for %s", w.parked[0].name(), w.parked[0].at)
	}
	lasts := map[string]*actor{}
	for _, a := range w.actors {
		if a.kind == workflows.TypeRegisterModel {
			lasts[a.owner()] = a
		}
	}
	var owners []string
	for _, a := range w.actors {
		if lasts[a.owner()] != a || a.terminated {
			continue
		}
		owners = append(owners, a.owner())
		if a.canceled && a.err != nil {
			w.judge.leave(w.now, a.owner())
		}
	}
	return w.judge.atRest(w.now, owners, w.schedule.Unlimited)
}

// grant lets one move, up to where it stops next.
func (w *world) grant(p *parking, fault mlflowtest.Fault) {
	w.unpark(p)
	w.moves(p.attempt)
	switch p.at {
	case atStart:
		w.run(p.actor)
	case atAnswer:
		reply := w.replies[p.actor.execution]
		delete(w.replies, p.actor.execution)
		p.actor.env.SignalWorkflow(workflows.SignalPromoted, reply)
		p.decide <- fault
	default:
		p.decide <- fault
	}
	w.await()
}

func (w *world) unpark(p *parking) {
	w.parked = slices.DeleteFunc(w.parked, func(other *parking) bool { return other == p })
	if p.attempt != nil {
		p.attempt.parked = nil
	}
}

// await takes note of where the one who moves stops.
func (w *world) await() {
	var s stop
	select {
	case s = <-w.stops:
	case <-time.After(time.Minute):
		require.FailNow(w.t, "nobody moves any more", "%s\n%s", w.schedule, w.trace.String())
	}
	switch {
	case s.actor != nil:
		w.ended(s.actor)
	case s.parked != nil:
		s.parked.since = w.step
		if !s.parked.attempt.zombie {
			w.parked = append(w.parked, s.parked)
		}
		if s.parked.attempt.parked = s.parked; !slices.Contains(w.attempts, s.parked.attempt) {
			w.attempts = append(w.attempts, s.parked.attempt)
		}
		if s.parked.at == atAnswer {
			w.ask(s.parked)
		}
	}
}

// ended judges how a workflow ended.
func (w *world) ended(a *actor) {
	a.ended = true
	w.lives(a, false)
	switch {
	case a.terminated:
		w.note("%s is terminated", a.name)
	case a.canceled && temporal.IsCanceledError(a.err):
		w.note("%s is canceled", a.name)
	case a.err != nil:
		w.note("%s fails: %v", a.name, a.err)
		if len(w.judge.removed) == 0 && w.violated == nil {
			w.violated = fmt.Errorf("P5: %s failed: %w", a.name, a.err)
		}
	default:
		w.note("%s ends %s %s", a.name, a.result.Outcome, a.result.ModelVersion)
		if p := (returned{a.result.ModelVersion, a.result.MLflowRunID, a.result.MLflowModelID}); p.version != "" {
			w.judge.promised = append(w.judge.promised, p)
		}
	}
}

// moves says whose requests arrive from now on.
func (w *world) moves(a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = a
}

// tell sets what an actor or an attempt reads.
func (w *world) tell(fact *bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*fact = true
}

func (w *world) isTerminated(a *actor) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return a.terminated
}

// intercept parks each request that matters until it is its turn.
func (w *world) intercept(r *http.Request) mlflowtest.Fault {
	w.mu.Lock()
	sender, over := w.running, w.over
	w.mu.Unlock()
	name := nameOf(r)
	switch {
	case r.Header.Get(headerOfWorld) != "":
		return mlflowtest.Fault{}
	case over || sender == nil:
		return cut
	case w.schedule.Old && strings.HasPrefix(name, "logged-models"):
		return mlflowtest.Fault{Status: http.StatusNotFound, Body: "<!doctype html>"}
	case isAside(name):
		return mlflowtest.Fault{}
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return cut
	}
	return w.park(sender, name, request{method: r.Method, path: r.URL.RequestURI(), body: content})
}

// park stops an attempt until it is its turn.
func (w *world) park(a *attempt, at string, r request) mlflowtest.Fault {
	w.mu.Lock()
	over := w.over
	w.mu.Unlock()
	if over {
		return cut
	}
	p := &parking{actor: a.actor, attempt: a, at: at, request: r, decide: make(chan mlflowtest.Fault, 1)}
	w.stops <- stop{parked: p}
	return <-p.decide
}

// finish ends whatever still moves.
func (w *world) finish() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	for _, a := range w.actors {
		w.tell(&a.terminated)
	}
	for _, a := range w.attempts {
		if a.parked != nil {
			a.parked.decide <- cut
		}
	}
	done := make(chan struct{})
	go func() {
		w.inFlight.Wait()
		close(done)
	}()
	for {
		select {
		case s := <-w.stops:
			if s.parked != nil {
				s.parked.decide <- cut
			}
		case <-done:
			return
		case <-time.After(time.Minute):
			require.FailNow(w.t, "somebody does not end", "%s\n%s", w.schedule, w.trace.String())
		}
	}
}

func (w *world) note(format string, args ...any) {
	fmt.Fprintf(&w.trace, "%4d  %s\n", w.step, fmt.Sprintf(format, args...))
}
