package protocol

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// examples are the schedules that lead to a violation where the rule of their name is left out (see rules): by the shortest
// counterexamples of the protocol's model, which random schedules find too seldom.
var examples = map[string]schedule{
	"adopt by generation": {Cast: one, Again: 1, Events: []event{
		{Do: cancel, At: before("A1", "logged-models/create"), Until: never},
		{Do: drop, At: before("A2", "runs/create")}, // the first attempt looks for nothing
	}},
	"sweep by generation": {Cast: one, Again: 1, Events: []event{
		{Do: delay, At: before("A1", "runs/log-batch"), Until: never},
		{Do: cancel, At: before("A1", "logged-models/create"), Until: never},
		{Do: pause, At: before("A2", "model-versions/create"), Until: before("sweep A1", "logged-models/delete")},
		{Do: pause, At: before("sweep A1", "logged-models/delete"), Until: last},
	}},
	"condemn before the fence": {Cast: one, Events: []event{
		{Do: freeze, At: before("A1", "model-versions/create"), Until: moment{"A1", "model-versions/search", 3}},
		{Do: freeze, At: before("A1", "logged-models/delete"), Until: last},
	}},
	"write-once decision": {Cast: one, Again: 1, Events: []event{
		{Do: freeze, At: before("A1", "model-versions/create"), Until: before("A2", "model-versions/search")},
		{Do: terminate, At: before("A1", "logged-models/delete"), Until: last},
	}},
	"only what was decided on counts": {Cast: one, Again: 1, Events: []event{
		{Do: terminate, At: before("A1", "runs/log-parameter"), Until: before("A2", "runs/update")},
	}},
	"fence of earlier generations, and a second pass of the sweep": {Cast: one, Again: 1, Unlimited: true, Events: []event{
		{Do: terminate, At: before("A1", "model-versions/create"), Until: before("sweep A2", "logged-models/search")},
	}},
	"one create for a logged model": {Cast: one, Events: []event{
		{Do: delay, At: before("A1", "model-versions/create"), Until: before("A1", "runs/log-parameter")},
	}},
	"the fence deletes what came before it": {Cast: one, Events: []event{
		{Do: delay, At: before("A1", "model-versions/create"), Until: before("A1", "logged-models/delete")},
	}},
	"settle on MLflow 2": {Cast: one, Old: true, Events: []event{
		{Do: delay, At: before("A1", "model-versions/create"), Until: before("A1", "runs/log-parameter")},
	}},
	"record before delete": {Cast: one, Events: []event{
		{Do: freeze, At: before("A1", "runs/create"), Until: before("A1", "runs/update")},
		{Do: freeze, At: moment{"A1", "runs/search", 2}, Until: last},
	}},
	"spare what a person left": {Cast: one, Again: 1, Events: []event{
		{Do: remove, At: before("A2", "model-versions/search")},
	}},
	"own decision first": {Cast: twoNamespaces, Again: 1, Events: []event{
		{Do: terminate, At: before("A1", "runs/update"), Until: never},
	}},
	"of others only what is completed": {Cast: twoNamespaces, Events: []event{
		{Do: freeze, At: before("A1", "model-versions/create"), Until: before("A1", "logged-models/delete")},
		{Do: pause, At: before("A1", "logged-models/delete"), Until: last},
	}},
	"completed last": {Cast: one, Events: []event{
		{Do: terminate, At: before("A1", "model-versions/set-tag"), Until: last},
	}},
	"no archive flag": {Cast: twoModels, Events: []event{
		{Do: freeze, At: before("promoter", "model-versions/transition-stage"), Until: moment{"promoter", "registered-models/alias", 2}},
	}},
	"second look at a promotion": {Cast: twoModels, Events: []event{
		{Do: freeze, At: before("promoter", "registered-models/alias"), Until: last},
	}},
	"forwards only": {Cast: twoModels, Events: []event{
		{Do: pause, At: before("A1", "runs/log-parameter"), Until: last},
	}},
	"one promotion at a time": {Cast: twoModels, Events: []event{
		{Do: pause, At: before("A1", "model-versions/transition-stage"), Until: before("B1", "runs/update")},
	}},
	"sweep": {Cast: one, Events: []event{
		{Do: delay, At: before("A1", "runs/create"), Until: last},
	}},
	"sweep after what was started again": {Cast: one, Again: 1, Events: []event{
		{Do: terminate, At: before("A1", "runs/create"), Until: before("A2", "runs/update")},
	}},
	"sweep only what is one's own": {Cast: twoNamespaces, ByTurns: true, Events: []event{
		{Do: lose, At: before("A1", "model-versions/create")},
		{Do: pause, At: before("B1", "runs/log-parameter"), Until: last},
	}},
	"spare what has an alias or a stage": {Cast: one, Again: 1, Events: []event{
		{Do: terminate, At: before("A1", "runs/log-parameter"), Until: never},
		{Do: adopt, At: before("A2", "runs/update")},
	}},
	"leave the run of what was started again": {Cast: one, Again: 1, Events: []event{
		{Do: terminate, At: before("A1", "runs/search"), Until: before("A2", "logged-models/create")},
	}},
	"spare what is decided on": {Cast: one, Again: 1, Events: []event{
		{Do: terminate, At: before("A1", "runs/log-parameter"), Until: before("A2", "model-versions/search")},
		{Do: cancel, At: before("A2", "model-versions/search")},
		{Do: freeze, At: before("A2", "model-versions/search"), Until: never},
		{Do: freeze, At: moment{"A2", "model-versions/search", 2}, Until: never},
		{Do: freeze, At: moment{"A2", "model-versions/search", 3}, Until: never},
	}},
}

func TestProtocol_HoldsInTheExamples(t *testing.T) {
	projects := newProjects(t)
	for name, s := range examples {
		t.Run(name, func(t *testing.T) {
			trace, err := play(t, projects, s)
			require.NoError(t, err, trace)
		})
	}
}
