package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// report is the table of what was measured.
type report struct {
	rows     []row
	profiles []profile
}

type row struct {
	what, ours, rival string
	verdict           verdict
}

// verdict is a measured figure against its target.
type verdict struct {
	figure, target string
	met            bool
}

func (r *report) add(what, ours, rival string, v verdict) {
	r.rows = append(r.rows, row{what, ours, rival, v})
	target := ""
	if v.target != "" {
		target = " (target: " + v.target + ")"
	}
	fmt.Printf("    %-78s %10s %10s   %s%s\n", what, ours, rival, v.figure, target)
}

func atMost(value, limit float64, unit string) verdict {
	return verdict{number(value) + unit, "at most " + number(limit) + unit, value <= limit}
}

func atLeast(value, limit float64, unit string) verdict {
	return verdict{number(value) + unit, "at least " + number(limit) + unit, value >= limit}
}

// toKnow is a figure that nothing was promised of.
func toKnow(value float64, unit string) verdict {
	return verdict{figure: number(value) + unit, met: true}
}

// fraction is for how many times less than a rival's something is.
func fraction(times, wanted float64) verdict {
	return verdict{"1/" + number(times), "at most 1/" + number(wanted), times >= wanted}
}

func number(value float64) string {
	if value >= 10 {
		return fmt.Sprintf("%.0f", value)
	}
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", value), "0"), ".")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func megabytes(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }

func percent(part, of time.Duration) string {
	return fmt.Sprintf("%.2f %%", 100*part.Seconds()/of.Seconds())
}

// about is on what it was measured.
func (b *bench) about(ctx context.Context) (string, error) {
	versions := exec.CommandContext(ctx, b.python, "-c",
		"import mlflow, sklearn, sys; print(f'MLflow {mlflow.__version__} on SQLite, Python {sys.version.split()[0]}, scikit-learn {sklearn.__version__}')")
	python, err := versions.Output()
	if err != nil {
		return "", fmt.Errorf("ask Python for versions: %w", err)
	}
	temporal, err := exec.CommandContext(ctx, binary("temporal"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask Temporal for its version: %w", err)
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %d processors (%s, %s), load %s at the end; %s, %s; %s.", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), processor(), runtime.GOARCH,
		strings.Fields(string(load))[0], runtime.Version(), strings.TrimSpace(string(python)), strings.TrimSpace(string(temporal))), nil
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOOS
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOOS
}

// markdown is docs/benchmarks.md.
func (r *report) markdown(about string) string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nWritten by `make bench`, which measures all of it side by side in one run; do not edit. " +
		"`BENCH=quick make bench` measures a little of it and only prints.\nThe ratio holds, a second does not.\n\n")
	fmt.Fprintf(&b, "%s\n\n", about)
	b.WriteString("| what | here | rival | ratio, or figure | target | |\n|---|---|---|---|---|---|\n")
	for _, row := range r.rows {
		met := "met"
		switch {
		case row.verdict.target == "":
			met = ""
		case !row.verdict.met:
			met = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", row.what, row.ours, row.rival, row.verdict.figure, row.verdict.target, met)
	}
	for _, p := range r.profiles {
		b.WriteString(p.markdown())
	}
	b.WriteString(explanation)
	return b.String()
}

const explanation = `
## What is compared

- **The Python stage** (` + "`test/bench/rivals/log_model.py`" + `): loads the model, and ` + "`mlflow.sklearn.log_model`" + ` with cloudpickle does the rest. Whole process, as the
  pipeline starts it.
- **The bare script** (` + "`rest_calls.py`" + `): the same requests, over one connection, with no more than ids taken from the answers; and the fewest requests that leave the same
  objects, without a look at what is there and at what came out. Neither hashes, inspects or tries again. Whole process, too.
- **Here**: the whole process of ` + "`starter register --wait final`" + `, against servers and a worker that are warm. CPU is that of starter and worker, memory the worker's
  at its largest meanwhile.
- **Temporal**: its development server has one history shard, which takes tasks from its queues 20 times a second and no more often
  (` + "`history.transferProcessorMaxPollRPS`" + `); a cluster has hundreds of shards. Here the limit is lifted, and activities are started eagerly, as in
  deploy/temporal/dynamic-config.yaml.
- **starter inspect**: the whole process, with the file in the page cache; the rival does the least that anybody does who looks into the file.
- **Large file**: freezing is from the start of the starter until Temporal has the registration, plus SnapshotModel; upload is UploadModel, with its requests before and after the bytes.
  ` + "`cp`" + ` alone leaves the copy in memory; the frozen one is on the disk before anybody hears of it, so ` + "`cp`" + ` is given an fsync. curl sends that copy, at once.
  Before each, what others left is written to the disk, and as much memory as is needed is touched: below a virtual machine, memory that was free for a minute has to be fetched
  back from the host (` + "`test/bench/memory.go`" + `).
- Medians of alternating rounds, after one that warms up; a ratio is the median of the rounds' ratios, since a machine's speed drifts from round to round.

## What stands in the way where a target is missed

- **Wall**: until MLflow has answered, which is what the bare script takes too, is more than half of it; to send the searches at the same time was tried, and gains nothing from its one
  process. Most of the rest is until Temporal has answered: what the workflow waits for is on Temporal's disk before the next step is taken, which is what a registration survives by.
  Activities are few, and what takes milliseconds is within a workflow task already.
- **CPU**: a file is hashed and judged by the starter before it is handed over, again by the worker, which trusts no folder, and hashed once more while it is sent. What is left is
  the same for any size: 30 requests to MLflow, 17 to Temporal, and the start of a process.
- **Memory**: three quarters of the worker's is there at rest, and most of that is its program's own pages (28 MiB of VmRSS are RssFile). A registration adds what the garbage
  collector lets pile up: GOGC=50 was tried, took some 15 % more CPU, and gained a megabyte at most.
- **Upload**: MLflow fills its processor all the while, and the worker takes a third of the other one, for the digest of the very bytes that are sent: what was judged is what is
  registered. To hash in a goroutine of its own was tried, and gains nothing.
- **Registrations a minute**: MLflow is one process, and nearly fills its processor (see its row); Temporal and the worker share the other one with it and with SQLite's commits, two
  databases on one disk.

Requests to MLflow, each with its reason: ` + "`test/chaos/testdata/requests.txt`" + `, which a test holds against the real ones. What thousands cost that wait: docs/reliability.md.
`
