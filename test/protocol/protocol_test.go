package protocol

import (
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestMain has the same schedules made up each time, unless flags ask for others. A failure is repeated by the seed that it names.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { asked[f.Name] = true })
	settings := map[string]string{"rapid.nofailfile": "true"}
	if !asked["rapid.seed"] && !asked["rapid.checks"] {
		settings["rapid.seed"] = "1"
	}
	for name, value := range settings {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func TestProtocol_HoldsUnderAnySchedule(t *testing.T) {
	projects := newProjects(t)
	rapid.Check(t, func(r *rapid.T) {
		s := schedules().Draw(r, "schedule")
		if trace, err := play(t, projects, s); err != nil {
			r.Fatalf("%v\n%s", err, trace)
		}
	})
}

func TestProtocol_HoldsInTheUsualCourse(t *testing.T) {
	projects := newProjects(t)
	for cast := range participants {
		t.Run(string(cast), func(t *testing.T) {
			trace, err := play(t, projects, schedule{Cast: cast, Again: 1})
			require.NoError(t, err, trace)
		})
	}
}

// What is not repeatable cannot be shrunk, nor looked into.
func TestProtocol_IsPlayedTheSameWayEachTime(t *testing.T) {
	projects := newProjects(t)
	s := schedule{Cast: threeModels, Again: 1, ByTurns: true, Events: []event{
		{Do: freeze, At: before("A1", "model-versions/create"), Until: before("A1", "logged-models/delete")},
		{Do: delay, At: before("promoter", "registered-models/alias"), Until: before("C1", "runs/update")},
		{Do: cancel, At: before("B1", "runs/outputs"), Until: last},
	}}
	first, err := play(t, projects, s)
	require.NoError(t, err, first)
	for range 5 {
		again, err := play(t, projects, s)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}
}
