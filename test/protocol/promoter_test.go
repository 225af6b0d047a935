package protocol

import (
	"go.temporal.io/sdk/workflow"

	"registrar/internal/mlflow/mlflowtest"
	"registrar/workflows"
)

// ask brings a request for promotion to the promoter, as a signal that starts one where there is none.
func (w *world) ask(p *parking) {
	wanted := p.request.promotion
	if w.promoter == nil || w.promoter.ended {
		w.promoter = &actor{
			name: "promoter", kind: workflows.TypePromoteVersions, namespace: p.actor.namespace, started: p.actor.started,
			execution: workflow.Execution{ID: workflows.PromotionID(modelName, "", ""), RunID: "promoter"},
			input: workflows.PromoteVersionsInput{
				ModelName: modelName, Settle: settle, Requests: []workflows.PromotionRequest{wanted},
			},
		}
		w.start(w.promoter)
		return
	}
	now := w.find(func(p *parking) bool { return p.actor == w.promoter })
	if now.at == atStart {
		in := w.promoter.input.(workflows.PromoteVersionsInput)
		in.Requests = append(in.Requests, wanted)
		w.promoter.input = in
		return
	}
	if now.at != atSettle {
		w.promoter.env.SignalWorkflow(workflows.SignalPromote, wanted)
		return
	}
	w.unpark(now)
	w.moves(nil)
	w.promoter.env.SignalWorkflow(workflows.SignalPromote, wanted)
	now.decide <- mlflowtest.Fault{} // its timer is canceled
	w.await()
}

// answer keeps the promoter's reply for who asked.
func (w *world) answer(to workflow.Execution, reply workflows.PromotionReply) {
	for _, a := range w.actors {
		if a.execution == to && !w.isTerminated(a) {
			w.replies[to] = reply
		}
	}
}
