package protocol

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/confine"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/workflows"
)

const (
	// maxSteps is when a case is taken for one that never ends; one that ends has some hundred.
	maxSteps = 1500
	// settle is S of the protocol, in virtual time.
	settle = 15 * time.Minute
	// personsAlias is what a person sets by hand.
	personsAlias = "champion"
	// headerOfWorld marks the requests of the world itself: late ones, and those of a person.
	headerOfWorld = "Registrar-World"
)

// world is where a schedule is played. One of the actors and attempts moves at a time, up to its next request; the world says which.
type world struct {
	t        testing.TB
	schedule schedule
	server   *mlflowtest.Server
	projects *projects
	roots    *confine.Roots
	judge    judge
	names    *names
	now      holdings
	trace    strings.Builder
	step     int
	violated error

	actors   []*actor
	parked   []*parking // of actors, in the order of their coming
	attempts []*attempt
	held     []*held
	urgent   []func() *parking // who goes on before all others, the last first
	promoter *actor
	events   []*pending
	replies  map[workflow.Execution]workflows.PromotionReply

	stops    chan stop
	inFlight sync.WaitGroup

	mu      sync.Mutex
	alive   map[workflow.Execution]bool // those that go on
	running *attempt                    // whose requests arrive: the one that moves
	over    bool
}

// stop is the end of a move: somebody parks, or has come to the end.
type stop struct {
	parked  *parking
	actor   *actor
	attempt *attempt // a zombie's
}

// request is what an attempt is about to send.
type request struct {
	method, path string
	body         []byte
	promotion    workflows.PromotionRequest // at atAnswer
}

const api = "/api/2.0/mlflow/"

// body is the JSON of a request of the world's own.
func body(fields ...string) []byte {
	object := map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		object[fields[i]] = fields[i+1]
	}
	data, _ := json.Marshal(object) // strings always can be
	return data
}

// brief is what a request is about, for the trace.
func (w *world) brief(r request) string {
	var object map[string]any
	if json.Unmarshal(r.body, &object) != nil {
		_, query, _ := strings.Cut(r.path, "?")
		if strings.Contains(query, "registrar.key") {
			return ""
		}
		return w.names.replace(query)
	}
	var fields []string
	for _, field := range []string{"run_id", "source", "version", "stage", "key", "value", "status", "alias"} {
		if value, ok := object[field].(string); ok {
			fields = append(fields, w.names.replace(value))
		}
	}
	if id, ok := strings.CutPrefix(r.path, api+"logged-models/"); ok && id != "search" {
		fields = append(fields, w.names.replace(id))
	}
	return strings.Join(fields, " ")
}

// pending is an event that has not happened yet.
type pending struct {
	event
	seen int
}

// cut ends a request without an answer.
var cut = mlflowtest.Fault{Drop: true}

// play plays a schedule to its end, and returns what happened, and which property is violated.
func play(t testing.TB, projects *projects, s schedule) (trace string, violation error) {
	t.Helper()
	w := newWorld(t, projects, s)
	violation = w.play()
	return s.String() + "\n" + w.trace.String(), violation
}

func newWorld(t testing.TB, projects *projects, s schedule) *world {
	w := &world{
		t: t, schedule: s, projects: projects, names: newNames(), stops: make(chan stop, 16),
		judge: judge{removed: map[string]bool{}}, alive: map[workflow.Execution]bool{}, replies: map[workflow.Execution]workflows.PromotionReply{},
	}
	for _, e := range s.Events {
		w.events = append(w.events, &pending{event: e})
	}
	var err error
	w.roots, err = confine.Open(slices.Collect(maps.Values(projects.roots)), nil)
	require.NoError(t, err)
	return w
}

func (w *world) play() error {
	scope := &scope{TB: w.t}
	defer scope.end()
	scope.Cleanup(func() { _ = w.roots.Close() }) // only read
	w.server = mlflowtest.NewServer(scope)
	w.server.Intercept(w.intercept)
	defer w.finish()
	for _, who := range participants[w.schedule.Cast] {
		w.register(who, 1)
	}
	for {
		p := w.next()
		if p == nil {
			return w.rest()
		}
		w.step++
		if w.step > maxSteps {
			return fmt.Errorf("P5: no end after %d moves", maxSteps)
		}
		if err := w.move(p); err != nil {
			return err
		}
	}
}

var participants = map[cast][]string{
	one: {"A"}, twoNamespaces: {"A", "B"}, twoModels: {"A", "B"}, threeModels: {"A", "B", "C"},
}

// register starts a registration of a participant.
func (w *world) register(who string, generation int) {
	project, namespace := who, "default"
	if w.schedule.Cast == twoNamespaces {
		project, namespace = "A", "namespace-"+who
		if who == "B" {
			project = "A's twin"
		}
	}
	w.start(&actor{
		name: fmt.Sprintf("%s%d", who, generation), kind: workflows.TypeRegisterModel, namespace: namespace,
		input:     workflows.RegisterInput{Root: w.projects.roots[project], Again: generation > 1},
		execution: workflow.Execution{ID: "register/" + who, RunID: fmt.Sprintf("%s%d", who, generation)},
		started:   time.UnixMilli(1_700_000_000_000).Add(time.Duration(generation) * time.Hour),
	})
}

func (w *world) start(a *actor) {
	w.lives(a, true)
	w.actors = append(w.actors, a)
	w.parked = append(w.parked, &parking{actor: a, at: atStart})
}

func (w *world) startSweep(parent *actor, in workflows.SweepInput) {
	a := &actor{
		name: "sweep " + parent.name, kind: workflows.TypeSweep, namespace: parent.namespace, input: in, started: parent.started,
		execution: workflow.Execution{ID: parent.execution.ID, RunID: "sweep " + parent.name}, // its requests are its parent's
	}
	w.start(a)
}

func (w *world) activitiesFor(a *actor) *activities.Activities {
	return &activities.Activities{
		Roots:      w.roots,
		Process:    map[string]string{"MLFLOW_TRACKING_URI": w.server.URL},
		Clients:    &activities.Clients{},
		Namespace:  a.namespace,
		IsRunning:  w.isRunning,
		SettleTime: settle,
		LookFor:    time.Nanosecond,
	}
}

// lives tells Temporal whether an execution goes on.
func (w *world) lives(a *actor, alive bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive[a.execution] = alive
}

// isRunning is what Temporal knows.
func (w *world) isRunning(_ context.Context, workflowID, runID string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.alive[workflow.Execution{ID: workflowID, RunID: runID}], nil
}

// scope is a test that ends before its parent does.
type scope struct {
	testing.TB
	cleanups []func()
}

// Cleanup calls f at the end of the scope.
func (s *scope) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func (s *scope) end() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}
