package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "write testdata/requests.txt anew; the reasons are then to be written by hand")

// What a registration that nothing disturbs may cost at most.
const (
	maxRequests     = 30
	maxEvents       = 60
	maxPayloadBytes = 16 << 10
)

// TestCounts_OfARegistrationThatNothingDisturbs counts what it asks of MLflow, each request with its reason, and what it leaves in Temporal.
func TestCounts_OfARegistrationThatNothingDisturbs(t *testing.T) {
	// Not parallel: beside many others, a request may take so long that it is made again.
	s := theSite(t)
	r, err := s.play(t.Context(), t, scenario{setting: succeeding})
	require.NoError(t, err)
	t.Logf("requests:\n%s", r.proxy.Log())
	requireReasons(t, r.proxy.Exchanges())
	require.LessOrEqual(t, len(r.proxy.Exchanges()), maxRequests)

	events, payloads := s.historyOf(t.Context(), t, r)
	t.Logf("%d events, %d bytes of payloads:\n%s", len(events), payloads, strings.Join(events, "\n"))
	require.LessOrEqual(t, len(events), maxEvents)
	require.Less(t, payloads, maxPayloadBytes)
}

// requireReasons sees that the requests are those of testdata/requests.txt, in their order, and that each stands there with a reason.
func requireReasons(t *testing.T, exchanges []*Exchange) {
	t.Helper()
	file := filepath.Join("testdata", "requests.txt")
	golden, err := os.ReadFile(file)
	if !*update {
		require.NoError(t, err)
	}
	var names, reasons, want []string
	for _, line := range strings.Split(strings.TrimSpace(string(golden)), "\n") {
		name, reason, _ := strings.Cut(line, " ")
		want = append(want, name)
		reasons = append(reasons, strings.TrimSpace(reason))
	}
	for _, e := range exchanges {
		names = append(names, e.Name)
	}
	if *update {
		known := map[string]string{}
		for i, name := range want {
			known[name] = reasons[i]
		}
		var b strings.Builder
		for _, name := range names {
			fmt.Fprintf(&b, "%s\n", strings.TrimSpace(fmt.Sprintf("%-38s %s", name, known[name])))
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o600))
		return
	}
	require.Equal(t, want, names, "`go test ./test/chaos -run TestCounts -update` writes %s anew", file)
	for i, reason := range reasons {
		require.NotEmpty(t, reason, "%s: why is it sent?", names[i])
	}
}

// historyOf is a line for each event of the registration's history, and the size of all payloads in it. A workflow task that took so long
// that the worker had to ask for another one to go on in, as on a machine that is busy with everything else, is left out.
func (s *site) historyOf(ctx context.Context, t *testing.T, r *registration) (events []string, payloadBytes int) {
	t.Helper()
	var all []*historypb.HistoryEvent
	for iterator := s.client.GetWorkflowHistory(ctx, r.run.GetID(), r.run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); iterator.HasNext(); {
		event, err := iterator.Next()
		require.NoError(t, err)
		all = append(all, event)
	}
	for i, event := range all {
		payloadBytes += payloadsIn(event.ProtoReflect())
		isTask := strings.Contains(event.GetEventType().String(), "WorkflowTask")
		if isTask && i+3 < len(all) && i > 0 && all[i-1].GetEventType() == enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			continue
		}
		line := event.GetEventType().String()
		if name := event.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName(); name != "" {
			line += " " + name
		}
		events = append(events, line)
	}
	return events, payloadBytes
}

// payloadsIn is the size of all payloads in a message, with what they say of their encoding.
func payloadsIn(m protoreflect.Message) (bytes int) {
	if payload, ok := m.Interface().(*commonpb.Payload); ok {
		return proto.Size(payload)
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { bytes += payloadsIn(v.Message()); return true })
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				bytes += payloadsIn(value.List().Get(i).Message())
			}
		case !field.IsMap() && !field.IsList() && field.Message() != nil:
			bytes += payloadsIn(value.Message())
		}
		return true
	})
	return bytes
}
