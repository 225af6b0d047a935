package protocol

import (
	"bytes"
	"io"
	"net/http"
	"slices"

	"github.com/stretchr/testify/require"

	"registrar/workflows"
)

// befall is what an event does to an attempt, or beside it. It reports whether the attempt's request is served all the same.
func (w *world) befall(p *parking, e event) bool {
	a := p.actor
	mayEnd := a.kind == workflows.TypeRegisterModel && !p.attempt.zombie && !a.terminated
	switch e.Do {
	case freeze:
		if !p.attempt.zombie {
			w.giveUp(p, errTimeout)
		}
		w.hold(&held{parking: p, until: e.Until})
		return false
	case pause:
		w.hold(&held{parking: p, until: e.Until})
		return false
	case crash:
		w.tell(&p.attempt.crashes)
	case terminate:
		if mayEnd {
			w.tell(&a.terminated)
			w.lives(a, false)
			w.giveUp(p, errTerminated)
			w.hold(&held{parking: p, until: e.Until})
			return false
		}
	case cancel:
		if mayEnd && !a.canceled {
			return w.cancel(p, e)
		}
	case remove:
		w.removeByHand()
	case adopt:
		w.aliasByHand(p)
	}
	return true
}

// giveUp makes a zombie of an attempt, and lets its workflow go on without it.
func (w *world) giveUp(p *parking, err error) {
	w.parked = slices.DeleteFunc(w.parked, func(other *parking) bool { return other == p })
	p.attempt.givenUpAt = w.step
	w.moves(nil)
	w.tell(&p.attempt.zombie)
	p.attempt.givenUp <- err
	w.await()
	w.observe(p.actor.owner())
}

// hear are the activities that hear of a cancellation, in the middle of a request: the upload by its heartbeats, local ones by the worker that they run on. The
// workflow lets all others end.
var hear = []string{"CheckMLflowHealth", "LookUp", "UploadModel"}

// cancel asks the workflow to cancel.
func (w *world) cancel(p *parking, e event) bool {
	p.actor.canceled = true
	p.actor.env.CancelWorkflow()
	if !slices.Contains(hear, p.attempt.activity) {
		return true
	}
	w.unpark(p)
	w.hold(&held{parking: p, late: true, until: e.Until})
	p.attempt.interrupt()
	w.await()
	p.decide <- cut // into a connection that nobody listens to
	w.observe(p.actor.owner())
	return false
}

// arrive applies a late request.
func (w *world) arrive(p *parking) {
	w.note("late: %s %s of %s arrives", p.at, w.brief(p.request), p.name())
	w.do(p.request)
	w.observe(p.actor.owner())
}

// do sends a request for the world itself.
func (w *world) do(r request) {
	sent, err := http.NewRequestWithContext(w.t.Context(), r.method, w.server.URL+r.path, bytes.NewReader(r.body))
	require.NoError(w.t, err)
	sent.Header.Set(headerOfWorld, "yes")
	answer, err := http.DefaultClient.Do(sent)
	require.NoError(w.t, err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(w.t, err)
}

// removeByHand is a person who deletes the version that was returned last.
func (w *world) removeByHand() {
	for _, p := range slices.Backward(w.judge.promised) {
		if _, there := w.now.version(p.version); there {
			w.judge.removed[p.version] = true
			w.do(request{http.MethodDelete, api + "model-versions/delete", body("name", modelName, "version", p.version), workflows.PromotionRequest{}})
			w.observe("")
			return
		}
	}
}

// aliasByHand is a person who gives an alias to a version that nobody was told of, though not while one is being deleted: between the
// look at a version and its deletion nothing can protect it.
func (w *world) aliasByHand(p *parking) {
	deletes := func(p *parking) bool {
		return p.attempt != nil && (p.attempt.activity == "Sweep" || p.attempt.activity == "FenceLoggedModels")
	}
	if deletes(p) || w.find(deletes) != nil || slices.ContainsFunc(w.held, func(h *held) bool { return deletes(h.parking) }) {
		return
	}
	for _, v := range w.now.versions {
		if !slices.ContainsFunc(w.judge.promised, func(p returned) bool { return p.version == v.Version }) {
			w.judge.byHand = true
			w.do(request{http.MethodPost, api + "registered-models/alias", body("name", modelName, "alias", personsAlias, "version", v.Version), workflows.PromotionRequest{}})
			w.observe("")
			return
		}
	}
}
