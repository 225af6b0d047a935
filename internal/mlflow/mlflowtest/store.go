package mlflowtest

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"

	"registrar/internal/mlflow"
)

// store is what the fake server remembers.
type store struct {
	count       int64 // of ids given, and of milliseconds gone
	experiments []*mlflow.Experiment
	runs        []*run
	models      []*loggedModel
	registered  []*registeredModel
	artifacts   map[string][]byte
}

type run struct {
	mlflow.Run
	history []mlflow.Metric
}

type loggedModel struct {
	mlflow.LoggedModel
	deleted bool
}

type registeredModel struct {
	mlflow.RegisteredModel
	versions []*mlflow.ModelVersion
	numbers  int // given so far: a deleted one is not given again
	aliases  map[string]string
}

func newStore() store {
	return store{
		artifacts: map[string][]byte{},
		experiments: []*mlflow.Experiment{{
			ExperimentID: "0", Name: "Default", ArtifactLocation: "mlflow-artifacts:/0", LifecycleStage: mlflow.LifecycleActive,
		}},
	}
}

// Runs are all runs in the order of their making, the deleted ones too.
func (s *Server) Runs() []mlflow.Run {
	return locked(s, func() []mlflow.Run { return each(s.store.runs, (*run).view) })
}

// MetricHistory is all that was logged of a run's metrics.
func (s *Server) MetricHistory(runID string) []mlflow.Metric {
	return locked(s, func() []mlflow.Metric {
		run, err := s.store.run(runID)
		if err != nil {
			return nil
		}
		return slices.Clone(run.history)
	})
}

// LoggedModels are the logged models in the order of their making, without the deleted ones.
func (s *Server) LoggedModels() []mlflow.LoggedModel {
	return locked(s, func() []mlflow.LoggedModel { return each(s.store.liveModels(), (*loggedModel).view) })
}

// ModelVersions are the versions by name and number, with their aliases, without the deleted ones.
func (s *Server) ModelVersions() []mlflow.ModelVersion {
	return locked(s, func() []mlflow.ModelVersion {
		var all []mlflow.ModelVersion
		for _, model := range s.store.registered {
			all = append(all, each(model.versions, model.view)...)
		}
		return all
	})
}

// Aliases are the aliases of a registered model, with the versions that they point to.
func (s *Server) Aliases(name string) map[string]string {
	return locked(s, func() map[string]string {
		model, err := s.store.registeredModel(name)
		if err != nil {
			return nil
		}
		return maps.Clone(model.aliases)
	})
}

// Artifacts are the uploaded files by their path below the artifact root.
func (s *Server) Artifacts() map[string][]byte {
	return locked(s, func() map[string][]byte { return maps.Clone(s.store.artifacts) })
}

func locked[T any](s *Server, read func() T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return read()
}

func each[From, To any](items []From, view func(From) To) []To {
	views := make([]To, 0, len(items))
	for _, item := range items {
		views = append(views, view(item))
	}
	return views
}

func (st *store) next() int64 {
	st.count++
	return st.count
}

// now is a clock that moves a millisecond with each thing made.
func (st *store) now() int64 { return 1_700_000_000_000 + st.count }

func (st *store) hexID() string { return fmt.Sprintf("%032x", st.next()) }

// setTag writes over the value that a key has.
func setTag(tags []mlflow.Tag, tag mlflow.Tag) []mlflow.Tag {
	for i := range tags {
		if tags[i].Key == tag.Key {
			tags[i].Value = tag.Value
			return tags
		}
	}
	return append(tags, tag)
}

// setMetric keeps the last metric of each key: by step, then timestamp, then value.
func setMetric(metrics []mlflow.Metric, metric mlflow.Metric) []mlflow.Metric {
	for i, old := range metrics {
		if old.Key == metric.Key {
			if cmp.Or(cmp.Compare(metric.Step, old.Step), cmp.Compare(metric.Timestamp, old.Timestamp),
				cmp.Compare(metric.Value, old.Value)) >= 0 {
				metrics[i] = metric
			}
			return metrics
		}
	}
	return append(metrics, metric)
}

// storable is a value as MLflow's database keeps it.
func storable(value float64) float64 {
	switch {
	case math.IsInf(value, 1):
		return math.MaxFloat64
	case math.IsInf(value, -1):
		return -math.MaxFloat64
	}
	return value
}

var clause = regexp.MustCompile("^\\s*(?:tags\\.`([^`]+)`|([a-z_]+))\\s*=\\s*'([^']*)'\\s*(AND\\s|$)")

// matcher reads a filter. Its function asks an object by its attributes, which are the allowed ones, and its tags.
func matcher(filter string, allowed ...string) (func(attributes map[string]string, tags []mlflow.Tag) bool, error) {
	type equality struct{ tag, attribute, value string }
	var equalities []equality
	for rest := filter; rest != ""; {
		found := clause.FindStringSubmatch(rest)
		if found == nil || found[2] != "" && !slices.Contains(allowed, found[2]) {
			return nil, invalid("Invalid clause(s) in filter string: " + rest)
		}
		equalities = append(equalities, equality{found[1], found[2], found[3]})
		rest = rest[len(found[0]):]
	}
	return func(attributes map[string]string, tags []mlflow.Tag) bool {
		for _, want := range equalities {
			if want.attribute != "" && attributes[want.attribute] != want.value ||
				want.tag != "" && !slices.Contains(tags, mlflow.Tag{Key: want.tag, Value: want.value}) {
				return false
			}
		}
		return true
	}, nil
}

// sortedValues is a map's values by their keys.
func sortedValues[T any](m map[string]T) []T {
	values := make([]T, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[key])
	}
	return values
}
