package chaos

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMatrix lets each fault befall each request. It runs with -full, or for one case by its name:
//
//	go test ./test/chaos -run '^TestMatrix$/^POST.runs.create.1=reset-after$'
func TestMatrix(t *testing.T) {
	runsByItself(t)
	m := recorded(t)
	m.run(t, m.scenarios())
}

// TestMatrixSample runs cases of the matrix that are the same each time: each fault once, and all that can befall the requests which create.
func TestMatrixSample(t *testing.T) {
	if *full {
		t.Skip("the full matrix has them all")
	}
	m := recorded(t) // before anything else runs
	t.Parallel()
	m.run(t, m.sample())
}

// TestPairs lets two or three faults befall one registration: the first one a random request, the others random ones of those that follow, so
// that they also befall the requests by which a registration recovers. -pairs says how many, -seed which:
//
//	go test ./test/chaos -seed 7 -pairs 100 -run 'TestPairs/^POST.runs.create.1=reset-after,[+]3=500-after$'
func TestPairs(t *testing.T) {
	if *pairs == 0 {
		t.Skip("no -pairs")
	}
	m := recorded(t)
	m.run(t, m.combinations(*seed, *pairs))
}

// sampleSeed chooses the sample.
const sampleSeed = 1

// runsByItself skips a test that is for -full, unless it is asked for by name.
func runsByItself(t *testing.T) {
	t.Helper()
	// -run '^TestMatrix$/...' names one.
	if !*full && !strings.Contains(flag.Lookup("test.run").Value.String(), t.Name()+"$/") {
		t.Skip("needs -full")
	}
}

// matrix is what registrations without faults do: the requests that faults may befall, and what they leave.
type matrix struct {
	site      *site
	settings  []setting
	requests  map[setting][]*Exchange
	portraits map[setting]string
}

var (
	recordOnce sync.Once
	theMatrix  *matrix
)

// recorded records the matrix once for all tests.
func recorded(t *testing.T) *matrix {
	t.Helper()
	s := theSite(t)
	recordOnce.Do(func() {
		m := &matrix{site: s, settings: []setting{plain, founding, succeeding}, requests: map[setting][]*Exchange{}, portraits: map[setting]string{}}
		for _, in := range m.settings {
			m.requests[in], m.portraits[in] = s.record(t, in)
		}
		theMatrix = m
	})
	require.NotNil(t, theMatrix, "the registrations without faults failed")
	return theMatrix
}

// points are the requests that faults befall: all of the plain registration, and those that only the others make.
func (m *matrix) points(in setting) []*Exchange {
	if in == plain {
		return m.requests[plain]
	}
	known := map[string]bool{}
	for _, e := range m.requests[plain] {
		known[e.Name] = true
	}
	var more []*Exchange
	for _, e := range m.requests[in] {
		if !known[e.Name] {
			more = append(more, e)
		}
	}
	return more
}

func (m *matrix) scenarios() []scenario {
	var all []scenario
	for _, in := range m.settings {
		for _, e := range m.points(in) {
			for _, f := range FaultsOf(e) {
				all = append(all, scenario{setting: in, faults: []Planned{{Fault: f, Request: e.Name}}})
			}
		}
	}
	return all
}

// askedTwice are the faults in which what MLflow did and what the worker knows differ: the sample has them for each request that must not
// be applied twice.
var askedTwice = map[string]bool{
	"reset-after": true, "late-after-look": true, "late-at-end": true, "late-before-fence": true, "late-after-fence": true,
}

var creating = map[string]bool{"POST.runs.create.1": true, "POST.logged-models.1": true, "POST.model-versions.create.1": true}

func (m *matrix) sample() []scenario {
	random := rand.New(rand.NewPCG(sampleSeed, 0))
	byFault := map[string][]scenario{}
	var chosen []scenario
	for _, sc := range m.scenarios() {
		planned := sc.faults[0]
		if creating[planned.Request] && askedTwice[planned.Fault.Name] {
			chosen = append(chosen, sc)
		} else {
			byFault[planned.Fault.Name] = append(byFault[planned.Fault.Name], sc)
		}
	}
	for _, f := range Faults {
		others := byFault[f.Name]
		chosen = append(chosen, others[random.IntN(len(others))])
	}
	// Those of the worker take longest, so they start first.
	slices.SortStableFunc(chosen, func(a, b scenario) int { return boolean(b.ownWorker()) - boolean(a.ownWorker()) })
	return chosen
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m *matrix) combinations(seed uint64, n int) []scenario {
	random := rand.New(rand.NewPCG(seed, 0))
	singles := m.scenarios()
	var all []scenario
	for range n {
		first := singles[random.IntN(len(singles))]
		sc := scenario{setting: first.setting, faults: []Planned{first.faults[0]}}
		for range 1 + random.IntN(2) {
			faults := append(append([]Fault{}, Faults...), FenceFaults...)
			sc.faults = append(sc.faults, Planned{Fault: faults[random.IntN(len(faults))], After: 1 + random.IntN(12)})
		}
		all = append(all, sc)
	}
	return all
}

// run plays scenarios side by side.
func (m *matrix) run(t *testing.T, scenarios []scenario) {
	t.Helper()
	queue := make(chan scenario)
	var done, failed atomic.Int32
	began := time.Now()
	var wg sync.WaitGroup
	for range *sideBySide {
		wg.Go(func() {
			for sc := range queue {
				passed := t.Run(sc.name(), func(t *testing.T) {
					began := time.Now()
					r, err := m.site.play(t.Context(), t, sc)
					v := r.judge(t.Context(), err, m.portraits[sc.setting])
					v.took = time.Since(began)
					results.add(v)
				})
				if !passed {
					failed.Add(1)
				}
				if n := done.Add(1); n%50 == 0 {
					fmt.Printf("%s: %d of %d cases, %d failed, %.0f s\n", t.Name(), n, len(scenarios), failed.Load(), time.Since(began).Seconds())
				}
			}
		})
	}
	for _, sc := range scenarios {
		queue <- sc
	}
	close(queue)
	wg.Wait()
}
