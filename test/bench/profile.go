package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
)

// The parts of a registration's time, as its history tells them: each stretch belongs to what ends it.
const (
	partHandOver   = "starter: its start, freezing, judging, handing over"
	partTasks      = "workflow tasks, with the local activities in them: LoadConfig, ValidateMetrics, CheckMLflowHealth, LookUp, RecordVersion, FinishRun, WriteReceipt"
	partActivities = "activities: SnapshotModel, LogRun, UploadModel, RegisterVersion"
	partPromotion  = "PromoteVersions, from being asked to its answer"
	partHops       = "Temporal, until the worker has the next task"
	partReceipt    = "starter: from the end of the workflow to its own"
)

var parts = []string{partHandOver, partTasks, partActivities, partPromotion, partHops, partReceipt}

// profile is where the time of one registration went.
type profile struct {
	what  string
	spent map[string]time.Duration
	whole time.Duration
	asked map[string]answers // by server
}

func profileOf(what string, events []*historypb.HistoryEvent, began time.Time, whole time.Duration, asked map[string]answers) profile {
	p := profile{what: what, spent: map[string]time.Duration{}, whole: whole, asked: asked}
	before := began
	for _, event := range events {
		at := event.GetEventTime().AsTime()
		p.spent[partOf(event.GetEventType())] += at.Sub(before)
		before = at
	}
	p.spent[partReceipt] += began.Add(whole).Sub(before)
	return p
}

func partOf(ending enums.EventType) string {
	switch ending {
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		return partHandOver
	case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		return partActivities
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		return partPromotion
	case enums.EVENT_TYPE_WORKFLOW_TASK_STARTED, enums.EVENT_TYPE_ACTIVITY_TASK_STARTED:
		return partHops
	}
	return partTasks // what a workflow task leads to has its time
}

func (p profile) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Where the time of one %s goes\n\n| part | time | share |\n|---|---|---|\n", p.what)
	row := func(part string, spent time.Duration) {
		fmt.Fprintf(&b, "| %s | %d ms | %.0f %% |\n", part, spent.Milliseconds(), 100*spent.Seconds()/p.whole.Seconds())
	}
	for _, part := range parts {
		row(part, p.spent[part])
	}
	for _, server := range slices.Sorted(maps.Keys(p.asked)) {
		row(fmt.Sprintf("within these: until %s has answered %d requests of the worker", server, p.asked[server].count), p.asked[server].waited)
	}
	return b.String()
}
