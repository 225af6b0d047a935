package chaos

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// results are those of all scenarios of this process.
var results table

type table struct {
	mu       sync.Mutex
	began    time.Time
	verdicts []verdict
}

func (b *table) add(v verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.began.IsZero() {
		b.began = time.Now().Add(-v.took)
	}
	b.verdicts = append(b.verdicts, v)
}

// row is a sum of verdicts.
type row struct {
	name                            string
	run, passed, duplicates, losses int
	took                            time.Duration
}

func (r *row) add(v verdict) {
	r.run++
	if len(v.problems) == 0 {
		r.passed++
	}
	r.duplicates += v.duplicates
	if v.lost {
		r.losses++
	}
	r.took += v.took
}

// print writes a row for each fault, with combinations together, and one for all. Its seconds are those that went by.
func (b *table) print(w io.Writer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.verdicts) == 0 {
		return
	}
	rows := map[string]*row{}
	all := &row{name: "all"}
	for _, v := range b.verdicts {
		name := fmt.Sprintf("%d faults", len(v.faults))
		if len(v.faults) == 1 {
			name = v.faults[0].Fault.Name
		}
		if rows[name] == nil {
			rows[name] = &row{name: name}
		}
		rows[name].add(v)
		all.add(v)
	}
	all.took = time.Since(b.began)
	var sorted []*row
	for _, r := range rows {
		sorted = append(sorted, r)
	}
	slices.SortFunc(sorted, func(a, b *row) int { return cmp.Compare(a.name, b.name) })
	fmt.Fprintf(w, "\n%-20s %6s %7s %11s %7s %9s\n", "fault", "cases", "passed", "duplicates", "losses", "seconds")
	for _, r := range append(sorted, all) {
		fmt.Fprintf(w, "%-20s %6d %7d %11d %7d %9.1f\n", r.name, r.run, r.passed, r.duplicates, r.losses, r.took.Seconds())
	}
}
