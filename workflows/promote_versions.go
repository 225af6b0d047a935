package workflows

import (
	"slices"
	"strconv"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/failure"
)

// maxPromotions is how many requests one execution takes before it continues as new.
const maxPromotions = 500

// PromoteVersionsInput says whose versions are promoted.
type PromoteVersionsInput struct {
	ModelName string `json:"model_name"`
	// Settle is how long after a doubtful promotion a request of it may still arrive.
	Settle time.Duration `json:"settle"`
	// Requests are those that an earlier execution of the chain handed on.
	Requests []PromotionRequest `json:"requests,omitempty"`
	// Recheck is the highest version of those that were promoted or may have been, to be promoted once more at RecheckAt; nil where nothing was doubtful.
	Recheck   *activities.PromoteVersionInput `json:"recheck,omitempty"`
	RecheckAt time.Time                       `json:"recheck_at,omitzero"`
}

// PromotionRequest asks for stage and alias for a version.
type PromotionRequest struct {
	Promote activities.PromoteVersionInput `json:"promote"`
	// WorkflowID and RunID name who asks, and Nonce which of its requests this is.
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	Nonce      string `json:"nonce"`
}

// PromotionReply answers a request.
type PromotionReply struct {
	Nonce  string                          `json:"nonce"`
	Result activities.PromoteVersionResult `json:"result"`
	// Kind, Message and Detail are the failure, where there is one.
	Kind    string         `json:"kind,omitempty"`
	Message string         `json:"message,omitempty"`
	Detail  failure.Detail `json:"detail,omitzero"`
}

// err is the failure as the activity would have returned it.
func (p PromotionReply) err() error {
	if p.Kind == "" {
		return nil
	}
	return temporal.NewNonRetryableApplicationError(p.Message, p.Kind, nil, p.Detail)
}

// PromoteVersions moves stage and alias for one model name in one workspace, one version at a time: two at once could leave the alias on the older one. It
// completes when nobody asks any more; after a promotion whose requests may still arrive it stays, and promotes the highest version again.
func PromoteVersions(ctx workflow.Context, in PromoteVersionsInput) error {
	p := &promoter{in: in, requests: workflow.GetSignalChannel(ctx, SignalPromote)}
	for {
		p.takeIn()
		if len(p.in.Requests) == 0 && p.in.Recheck == nil {
			return nil
		}
		if p.taken >= maxPromotions || workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return workflow.NewContinueAsNewError(ctx, PromoteVersions, p.in)
		}
		if err := p.next(ctx); err != nil {
			return err
		}
	}
}

type promoter struct {
	in       PromoteVersionsInput
	requests workflow.ReceiveChannel
	taken    int
}

func (p *promoter) takeIn() {
	var request PromotionRequest
	for p.requests.ReceiveAsync(&request) {
		p.add(request)
	}
}

// add takes a request in. Who asks again, since no answer came for a while, keeps its place.
func (p *promoter) add(request PromotionRequest) {
	p.taken++
	if slices.Contains(p.in.Requests, request) {
		return
	}
	p.in.Requests = append(p.in.Requests, request)
}

// next serves the first request; where there is none, it waits for one or for the recheck.
func (p *promoter) next(ctx workflow.Context) error {
	if len(p.in.Requests) == 0 {
		return p.idle(ctx)
	}
	request := p.in.Requests[0]
	p.in.Requests = p.in.Requests[1:]
	reply := PromotionReply{Nonce: request.Nonce}
	activityCtx := with(ctx, onMLflow, "version "+request.Promote.Version)
	err := workflow.ExecuteActivity(activityCtx, a.PromoteVersion, request.Promote).Get(ctx, &reply.Result)
	if temporal.IsCanceledError(err) {
		return err
	}
	if err != nil {
		reply.Kind, reply.Message, reply.Detail = orOutage(kind(err)), message(err), detailOf(err)
	}
	p.note(ctx, request.Promote, reply, err != nil && isOpen(err))
	// Who asked may be gone: then nobody needs the answer, and who is not asks again.
	_ = workflow.SignalExternalWorkflow(ctx, request.WorkflowID, request.RunID, SignalPromoted, reply).Get(ctx, nil)
	return nil
}

// orOutage takes a failure without a kind, a timeout, for an outage.
func orOutage(kind string) string {
	if kind == "" {
		return failure.Outage
	}
	return kind
}

// note remembers to promote the highest version again when requests of this promotion may still arrive. The highest is of those that were promoted, or
// may have been: one that was deleted or refused takes nothing back from a late request of an older one. Where no other is known it is promoted again all
// the same, which changes nothing.
func (p *promoter) note(ctx workflow.Context, promoted activities.PromoteVersionInput, reply PromotionReply, open bool) {
	highest := p.in.Recheck
	if reply.Result.Promoted || open && reply.Kind != failure.Gone {
		highest = higher(highest, promoted)
	}
	if reply.Result.Newer != "" {
		newer := promoted
		newer.Version, newer.ArtifactURI = reply.Result.Newer, "" // whose run nobody told of
		highest = higher(highest, newer)
	}
	if open || reply.Result.Doubtful {
		p.in.RecheckAt = workflow.Now(ctx).Add(p.in.Settle)
		if highest == nil {
			highest = &promoted
		}
	} else if p.in.Recheck == nil {
		return
	}
	p.in.Recheck = highest
}

// higher is the higher of two versions, and the known one where they are the same.
func higher(known *activities.PromoteVersionInput, v activities.PromoteVersionInput) *activities.PromoteVersionInput {
	if known != nil && activities.VersionNumber(known.Version) >= activities.VersionNumber(v.Version) {
		return known
	}
	return &v
}

// idle waits for a request, or promotes the highest version again when its time has come.
func (p *promoter) idle(ctx workflow.Context) error {
	timerCtx, stop := workflow.WithCancel(ctx)
	defer stop()
	due := false
	var failed error
	timer := workflow.NewTimerWithOptions(timerCtx, p.in.RecheckAt.Sub(workflow.Now(ctx)), workflow.TimerOptions{Summary: "until late requests are dead"})
	workflow.NewSelector(ctx).
		AddFuture(timer, func(f workflow.Future) { due, failed = true, f.Get(ctx, nil) }).
		AddReceive(p.requests, func(c workflow.ReceiveChannel, _ bool) {
			var request PromotionRequest
			c.Receive(ctx, &request)
			p.add(request)
		}).
		Select(ctx)
	if failed != nil || !due {
		return failed
	}
	return p.recheck(ctx)
}

// recheck promotes the highest version again. Where a person has something to mend first, that is put off, and requests are served meanwhile: their
// projects may have other credentials.
func (p *promoter) recheck(ctx workflow.Context) error {
	again := *p.in.Recheck
	var result activities.PromoteVersionResult
	err := workflow.ExecuteActivity(with(ctx, cleaning, "version "+again.Version+" again"), a.PromoteVersion, again).Get(ctx, &result)
	if takesPerson(err) {
		// What the attempts before the refused one sent may still arrive, too.
		p.in.RecheckAt = workflow.Now(ctx).Add(max(p.in.Settle, time.Minute))
		return nil
	}
	p.in.Recheck = nil
	if err == nil && result.Doubtful {
		p.note(ctx, again, PromotionReply{Result: result}, false)
	}
	if p.takeIn(); err != nil && ctx.Err() == nil && len(p.in.Requests) > 0 {
		// An execution that failed now would take those requests with it.
		workflow.GetLogger(ctx).Error("promote again", "model", p.in.ModelName, "version", again.Version, "error", err)
		return nil
	}
	return err
}

// requestPromotion asks the one who promotes the versions of this model, and returns its answer. It asks again where none comes.
func (r *registration) requestPromotion(ctx workflow.Context) (PromotionReply, error) {
	r.asked++
	info := workflow.GetInfo(ctx)
	request := PromotionRequest{
		Promote: activities.PromoteVersionInput{
			Server: r.server, ModelName: r.receipt.ModelName, Version: r.receipt.ModelVersion, ArtifactURI: r.mlflowRun.ArtifactURI,
		},
		WorkflowID: info.WorkflowExecution.ID,
		RunID:      info.WorkflowExecution.RunID,
		Nonce:      strconv.Itoa(r.asked),
	}
	workflowID := r.promotionID(ctx)
	for {
		err := workflow.ExecuteLocalActivity(locally(ctx, calling, "version "+r.receipt.ModelVersion), a.RequestPromotion, activities.Call{
			Workflow:   TypePromoteVersions,
			WorkflowID: workflowID,
			TaskQueue:  info.TaskQueueName,
			Signal:     SignalPromote,
			Start:      PromoteVersionsInput{ModelName: r.receipt.ModelName, Settle: r.loaded.SettleTime},
			Signaled:   request,
		}).Get(ctx, nil)
		if err != nil {
			return PromotionReply{}, err
		}
		reply, answered, err := awaitReply(ctx, request.Nonce)
		if answered || err != nil {
			return reply, err
		}
	}
}

// changePromotionByWorkspace: a registration in a workspace asks the one who promotes in that workspace. Executions of an older worker may have asked the
// one who promotes in all of them, and go on asking that one: were another asked as well, two would promote one version. Looked at by those in a workspace
// alone, so that others have no event of it.
//
// As long as such executions live, the two may promote versions of one model at a time, and the alias may stay on the older one. The audit finds that, and the
// next promotion mends it.
const changePromotionByWorkspace = "promotion-by-workspace"

// promotionID is the workflow id of the one who promotes the versions of this model.
func (r *registration) promotionID(ctx workflow.Context) string {
	forAll := PromotionID(r.receipt.ModelName, r.server.TrackingURI, "")
	inWorkspace := PromotionID(r.receipt.ModelName, r.server.TrackingURI, r.server.Workspace)
	if inWorkspace == forAll || workflow.GetVersion(ctx, changePromotionByWorkspace, workflow.DefaultVersion, 1) < 1 {
		return forAll
	}
	return inWorkspace
}

// awaitReply waits for the answer with the nonce, but not for ever: the one who was asked may have been terminated.
func awaitReply(ctx workflow.Context, nonce string) (reply PromotionReply, answered bool, err error) {
	timerCtx, stop := workflow.WithCancel(ctx)
	defer stop()
	late := false
	s := workflow.NewSelector(ctx)
	timer := workflow.NewTimerWithOptions(timerCtx, askAgainForPromotion, workflow.TimerOptions{Summary: "before asking again"})
	s.AddFuture(timer, func(f workflow.Future) { late, err = true, f.Get(ctx, nil) })
	s.AddReceive(workflow.GetSignalChannel(ctx, SignalPromoted), func(c workflow.ReceiveChannel, _ bool) {
		var answer PromotionReply
		c.Receive(ctx, &answer)
		if answer.Nonce == nonce {
			reply, answered = answer, true
		}
	})
	for !answered && !late {
		s.Select(ctx)
	}
	return reply, answered, err
}
