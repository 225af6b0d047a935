package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/workflows"
)

// promoter is an execution of PromoteVersions for a registered model that has some versions.
type promoter struct {
	*execution
	replies []workflows.PromotionReply
}

func newPromoter(t *testing.T, versions int) *promoter {
	server := mlflowtest.NewServer(t)
	p := &promoter{execution: newExecution(t, server, t.TempDir())}
	p.SetStartWorkflowOptions(startOptions(workflows.PromotionID(modelName, "", "")))
	p.OnSignalExternalWorkflow(mock.Anything, registrationID, "run", workflows.SignalPromoted, mock.Anything).Return(
		func(_, _, _, _ string, reply any) error {
			p.replies = append(p.replies, decoded[workflows.PromotionReply](t, reply))
			return nil
		})
	client := clientOf(t, server)
	_, err := client.CreateRegisteredModel(t.Context(), mlflow.CreateRegisteredModelRequest{Name: modelName})
	require.NoError(t, err)
	for range versions {
		_, err := client.CreateModelVersion(t.Context(), mlflow.CreateModelVersionRequest{Name: modelName, Source: "mlflow-artifacts:/somewhere"})
		require.NoError(t, err)
	}
	return p
}

// asks lets requests for promotion come after a time, all at once.
func (p *promoter) asks(after time.Duration, versions ...string) {
	p.RegisterDelayedCallback(func() {
		for _, version := range versions {
			p.SignalWorkflow(workflows.SignalPromote, p.request(version))
		}
	}, after)
}

func (p *promoter) request(version string) workflows.PromotionRequest {
	return workflows.PromotionRequest{
		Promote: activities.PromoteVersionInput{
			Server: activities.Server{TrackingURI: p.server.URL, Root: p.root}, ModelName: modelName, Version: version,
		},
		WorkflowID: registrationID, RunID: "run", Nonce: "nonce of " + version,
	}
}

func (p *promoter) run() {
	p.t.Helper()
	p.ExecuteWorkflow(workflows.PromoteVersions, workflows.PromoteVersionsInput{ModelName: modelName, Settle: settleTime})
	require.True(p.t, p.IsWorkflowCompleted())
}

// stages are the stages of the versions in their order.
func (p *promoter) stages() []string {
	var stages []string
	for _, v := range p.server.ModelVersions() {
		stages = append(stages, v.CurrentStage)
	}
	return stages
}

func TestPromoteVersions_OneAtATimeInTheOrderOfAsking(t *testing.T) {
	p := newPromoter(t, 4)
	var running, most atomic.Int32
	p.OnActivity(p.activities.PromoteVersion, mock.Anything, mock.Anything).Return(
		func(ctx context.Context, in activities.PromoteVersionInput) (activities.PromoteVersionResult, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			return p.activities.PromoteVersion(ctx, in)
		})
	p.asks(0, "1", "3", "2", "4")

	p.run()

	require.NoError(t, p.GetWorkflowError())
	require.EqualValues(t, 1, most.Load())
	promoted := activities.PromoteVersionResult{Promoted: true}
	require.Equal(t, []workflows.PromotionReply{
		{Nonce: "nonce of 1", Result: promoted},
		{Nonce: "nonce of 3", Result: promoted},
		{Nonce: "nonce of 2", Result: activities.PromoteVersionResult{Newer: "3"}},
		{Nonce: "nonce of 4", Result: promoted},
	}, p.replies)
	require.Equal(t, []string{"Archived", "None", "Archived", "Staging"}, p.stages())
	require.Equal(t, map[string]string{activities.Alias: "4"}, p.server.Aliases(modelName))
}

func TestPromoteVersions_ServesOnceWhoAsksAgainWhileOthersAreServed(t *testing.T) {
	p := newPromoter(t, 2)
	p.OnActivity(p.activities.PromoteVersion, mock.Anything, mock.Anything).After(time.Hour).Return(p.activities.PromoteVersion)
	p.asks(0, "1", "2")
	for minute := range 50 {
		p.asks(time.Duration(minute+1)*time.Minute, "2")
	}

	p.run()

	require.NoError(t, p.GetWorkflowError())
	require.Len(t, p.replies, 2)
}

func TestPromoteVersions_CompletesAtOnceWhereNothingIsDoubtful(t *testing.T) {
	p := newPromoter(t, 1)
	begin := p.Now()
	p.asks(0, "1")

	p.run()

	require.NoError(t, p.GetWorkflowError())
	require.Less(t, p.Now().Sub(begin), time.Second)
}

func TestPromoteVersions_PromotesTheHighestAgainAfterADoubtfulOne(t *testing.T) {
	p := newPromoter(t, 2)
	// The alias of version 1 is set again, late, after version 2 was promoted.
	var lost atomic.Bool
	p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/registered-models/alias") && r.Method == http.MethodPost && lost.CompareAndSwap(false, true) {
			return dropped
		}
		return mlflowtest.Fault{}
	})
	p.asks(0, "1", "2")
	p.RegisterDelayedCallback(func() {
		require.Equal(t, map[string]string{activities.Alias: "2"}, p.server.Aliases(modelName))
		require.NoError(t, clientOf(t, p.server).SetRegisteredModelAlias(t.Context(), modelName, activities.Alias, "1"))
	}, settleTime/2)
	begin := p.Now()

	p.run()

	require.NoError(t, p.GetWorkflowError())
	require.Len(t, p.replies, 2)
	require.True(t, p.replies[0].Result.Doubtful)
	require.Equal(t, map[string]string{activities.Alias: "2"}, p.server.Aliases(modelName))
	require.Equal(t, []string{"Archived", "Staging"}, p.stages())
	require.Equal(t, settleTime, p.Now().Sub(begin).Truncate(time.Minute))
}

// What was never promoted is not what stage and alias belong to, whatever its number.
func TestPromoteVersions_PromotesAgainOnlyWhatWasPromotedOrMayHaveBeen(t *testing.T) {
	promoted := activities.PromoteVersionResult{Promoted: true}
	failed := func(kind string, open bool) error {
		return temporal.NewNonRetryableApplicationError("no", kind, nil, failure.Detail{Open: open})
	}
	for name, test := range map[string]struct {
		result activities.PromoteVersionResult
		err    error
		again  string
	}{
		"promoted":                        {promoted, nil, "3"},
		"deleted":                         {activities.PromoteVersionResult{Deleted: true}, nil, "2"},
		"deleted, after a lost answer":    {activities.PromoteVersionResult{Deleted: true, Doubtful: true}, nil, "2"},
		"a newer one is, and is doubtful": {activities.PromoteVersionResult{Newer: "4", Doubtful: true}, nil, "4"},
		"refused":                         {activities.PromoteVersionResult{}, failed(failure.Refused, false), "2"},
		"refused, after a lost answer":    {activities.PromoteVersionResult{}, failed(failure.Refused, true), "3"},
		"gone":                            {activities.PromoteVersionResult{}, failed(failure.Gone, false), "2"},
		"gone, after a lost answer":       {activities.PromoteVersionResult{}, failed(failure.Gone, true), "2"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPromoter(t, 4)
			var asked []string
			p.OnActivity(p.activities.PromoteVersion, mock.Anything, mock.Anything).Return(
				func(_ context.Context, in activities.PromoteVersionInput) (activities.PromoteVersionResult, error) {
					switch asked = append(asked, in.Version); len(asked) {
					case 1:
						return activities.PromoteVersionResult{Promoted: true, Doubtful: true}, nil
					case 3:
						return test.result, test.err
					}
					return promoted, nil
				})
			p.asks(0, "1", "2", "3")

			p.run()

			require.NoError(t, p.GetWorkflowError())
			require.Equal(t, []string{"1", "2", "3", test.again}, asked)
		})
	}
}

func TestPromoteVersions_BringsTheAliasBackThoughANewerVersionWasDeleted(t *testing.T) {
	p := newPromoter(t, 3)
	var lost atomic.Bool
	p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/registered-models/alias") && r.Method == http.MethodPost && lost.CompareAndSwap(false, true) {
			return dropped
		}
		return mlflowtest.Fault{}
	})
	require.NoError(t, clientOf(t, p.server).DeleteModelVersion(t.Context(), modelName, "3"))
	p.asks(0, "1", "2", "3")
	p.RegisterDelayedCallback(func() {
		require.NoError(t, clientOf(t, p.server).SetRegisteredModelAlias(t.Context(), modelName, activities.Alias, "1"))
	}, settleTime/2)

	p.run()

	require.NoError(t, p.GetWorkflowError())
	require.True(t, p.replies[0].Result.Doubtful)
	require.Equal(t, activities.PromoteVersionResult{Deleted: true}, p.replies[2].Result)
	require.Equal(t, map[string]string{activities.Alias: "2"}, p.server.Aliases(modelName))
}

func TestPromoteVersions_DrawsNothingBesideAnotherVersionsRun(t *testing.T) {
	p := newPromoter(t, 2)
	var promoted []activities.PromoteVersionInput
	p.OnActivity(p.activities.PromoteVersion, mock.Anything, mock.Anything).Return(
		func(_ context.Context, in activities.PromoteVersionInput) (activities.PromoteVersionResult, error) {
			promoted = append(promoted, in)
			if in.Version == "1" {
				return activities.PromoteVersionResult{Newer: "2", Doubtful: true}, nil
			}
			return activities.PromoteVersionResult{Promoted: true}, nil
		})
	older := p.request("1")
	older.Promote.ArtifactURI = "mlflow-artifacts:/0/older/artifacts"
	p.RegisterDelayedCallback(func() { p.SignalWorkflow(workflows.SignalPromote, older) }, 0)

	p.run()

	require.NoError(t, p.GetWorkflowError())
	require.Equal(t, []activities.PromoteVersionInput{older.Promote, p.request("2").Promote}, promoted)
}

func TestPromoteVersions_ServesWhoAsksWhileItWaitsToPromoteAgain(t *testing.T) {
	p := newPromoter(t, 3)
	p.onRequest(1, func() mlflowtest.Fault { return dropped }, func() mlflowtest.Fault { return mlflowtest.Fault{} })
	p.asks(0, "2")
	p.asks(settleTime/2, "3", "1")

	p.run()

	require.NoError(t, p.GetWorkflowError())
	require.Len(t, p.replies, 3)
	require.Equal(t, "3", p.replies[2].Result.Newer)
	require.Equal(t, []string{"None", "Archived", "Staging"}, p.stages())
	require.Equal(t, map[string]string{activities.Alias: "3"}, p.server.Aliases(modelName))
}

func TestPromoteVersions_PromotesAgainOnceMLflowTakesItsCredentials(t *testing.T) {
	for name, fault := range map[string]mlflowtest.Fault{"unauthorized": unauthorized, "redirected": redirected} {
		t.Run(name, func(t *testing.T) {
			p := newPromoter(t, 2)
			begin := p.Now()
			p.onRequest(1, func() mlflowtest.Fault { return dropped }, func() mlflowtest.Fault {
				if since := p.Now().Sub(begin); since > settleTime/2 && since < 3*time.Hour {
					return fault
				}
				return mlflowtest.Fault{}
			})
			p.asks(0, "1", "2")
			// The alias of version 1 is set again, late.
			p.RegisterDelayedCallback(func() {
				require.NoError(t, clientOf(t, p.server).SetRegisteredModelAlias(t.Context(), modelName, activities.Alias, "1"))
			}, settleTime/4)
			// Who asks meanwhile is answered.
			p.asks(2*time.Hour, "1")

			p.run()

			require.NoError(t, p.GetWorkflowError())
			require.Len(t, p.replies, 3)
			require.NotEmpty(t, p.replies[2].Kind)
			require.Equal(t, map[string]string{activities.Alias: "2"}, p.server.Aliases(modelName))
			require.Equal(t, []string{"Archived", "Staging"}, p.stages())
			require.Less(t, p.Now().Sub(begin), 3*time.Hour+2*settleTime)
		})
	}
}

func TestPromoteVersions_ServesWhoAsksWhilePromotingAgainFailsForGood(t *testing.T) {
	p := newPromoter(t, 1)
	promoted := activities.PromoteVersionResult{Promoted: true}
	doubtful := activities.PromoteVersionResult{Promoted: true, Doubtful: true}
	p.OnActivity(p.activities.PromoteVersion, mock.Anything, p.request("1").Promote).Return(doubtful, nil).Once()
	p.OnActivity(p.activities.PromoteVersion, mock.Anything, p.request("1").Promote).After(time.Minute).Return(
		activities.PromoteVersionResult{}, temporal.NewNonRetryableApplicationError("no", failure.Refused, nil)).Once()
	p.OnActivity(p.activities.PromoteVersion, mock.Anything, p.request("2").Promote).Return(promoted, nil).Once()
	p.asks(0, "1")
	p.asks(settleTime+30*time.Second, "2")

	p.run()

	require.NoError(t, p.GetWorkflowError())
	require.Len(t, p.replies, 2)
	require.Equal(t, promoted, p.replies[1].Result)
}

func TestPromoteVersions_AnswersAFailureWithItsKind(t *testing.T) {
	for name, test := range map[string]struct {
		fault mlflowtest.Fault
		kind  string
		layer string
	}{
		"outage":       {unavailable, failure.Outage, "http"},
		"unauthorized": {unauthorized, failure.Unauthorized, "auth"},
		"refused":      {mlflowtest.Fault{Status: http.StatusBadRequest, Body: `{"error_code": "BAD_REQUEST", "message": "no"}`}, failure.Refused, "http"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPromoter(t, 1)
			p.fail(1, time.Minute, test.fault)
			p.asks(0, "1")

			p.run()

			require.NoError(t, p.GetWorkflowError())
			require.Len(t, p.replies, 1)
			require.Equal(t, test.kind, p.replies[0].Kind)
			require.Equal(t, test.layer, p.replies[0].Detail.Layer)
			require.NotEmpty(t, p.replies[0].Message)
			require.False(t, p.replies[0].Result.Promoted)
		})
	}
}

func TestPromoteVersions_HandsOnWhatIsAskedWhenItsHistoryIsFull(t *testing.T) {
	p := newPromoter(t, 1)
	p.RegisterDelayedCallback(func() {
		for i := range 600 {
			request := p.request("1")
			request.Nonce = fmt.Sprint(i)
			p.SignalWorkflow(workflows.SignalPromote, request)
		}
	}, 0)

	p.run()

	var again *workflow.ContinueAsNewError
	require.True(t, errors.As(p.GetWorkflowError(), &again), p.GetWorkflowError())
	var next workflows.PromoteVersionsInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.Equal(t, 600, len(p.replies)+len(next.Requests), fmt.Sprint(len(p.replies)))
	require.Equal(t, settleTime, next.Settle)
}
