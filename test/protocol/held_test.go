package protocol

import "slices"

// held is what goes on at a later moment: a late request, or an attempt that is a zombie or slow.
type held struct {
	parking *parking
	late    bool
	until   moment
	seen    int
	born    int
}

func (h *held) isAttempt() bool { return !h.late }

// mayDie tells that nothing is heard of it after the settle time.
func (h *held) mayDie() bool { return h.late || h.parking.attempt.zombie }

func (w *world) hold(h *held) {
	h.born = w.step
	if h.parking.attempt.zombie {
		h.born = h.parking.attempt.givenUpAt // what it sends, and it itself, does not live longer for being held again
	}
	w.held = append(w.held, h)
}

// goOn lets what is held go on where its time has come. It reports whether anyone has to be waited for.
func (w *world) goOn(due func(*held) bool) bool {
	waits := false
	for _, h := range slices.Clone(w.held) {
		if !due(h) {
			continue
		}
		w.held = slices.DeleteFunc(w.held, func(other *held) bool { return other == h })
		if h.late {
			w.arrive(h.parking)
			continue
		}
		waits = true
		w.note("%s goes on", h.parking.name())
		w.urgent = append(w.urgent, func() *parking { return w.parkedNow(h.parking) })
	}
	return waits
}

// parkedNow is where one that was held is now, if it can move.
func (w *world) parkedNow(p *parking) *parking {
	if !p.attempt.zombie {
		return w.find(func(now *parking) bool { return now.actor == p.actor && w.isReady(now) })
	}
	if slices.ContainsFunc(w.held, func(h *held) bool { return h.isAttempt() && h.parking.attempt == p.attempt }) {
		return nil
	}
	return p.attempt.parked
}

// expire ends what was given up before a settle time began: it arrives or goes on at the last moment, or never does. It reports whether
// there was anything.
func (w *world) expire(since int) bool {
	var dead []*held
	w.held = slices.DeleteFunc(w.held, func(h *held) bool {
		dies := h.mayDie() && h.born <= since && h.until == never
		if dies {
			dead = append(dead, h)
		}
		return dies
	})
	for _, h := range dead {
		for h.isAttempt() && h.parking.attempt.parked != nil {
			w.grant(h.parking.attempt.parked, cut)
		}
	}
	due := func(h *held) bool { return h.mayDie() && h.born <= since }
	found := len(dead) > 0 || slices.ContainsFunc(w.held, due)
	w.goOn(due)
	return found
}
