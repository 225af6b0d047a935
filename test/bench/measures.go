package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	"registrar/internal/receipt"
	"registrar/workflows"
)

// atRest measures a worker that has nothing to do.
func (b *bench) atRest(ctx context.Context) error {
	b.say("the worker at rest, %d s", b.extent.restSeconds)
	pid := b.worker.PID()
	before, err := cpuOf(pid)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, time.Duration(b.extent.restSeconds)*time.Second); err != nil {
		return err
	}
	after, err := cpuOf(pid)
	if err != nil {
		return err
	}
	resident, err := memoryOf(pid, "VmRSS")
	if err != nil {
		return err
	}
	b.report.add("worker at rest, memory", megabytes(resident), "", atMost(float64(resident)/(1<<20), 40, " MiB"))
	b.report.add("worker at rest, CPU", percent(after-before, time.Since(began)), "", atMost(100*(after-before).Seconds()/time.Since(began).Seconds(), 0.5, " %"))
	return nil
}

// registrations measures one registration of a model after the other, each beside the Python stage and the bare script. The profiles come last: to
// read the worker's metrics takes memory of it.
func (b *bench) registrations(ctx context.Context) error {
	models := []string{"small", "medium"}
	for _, model := range models {
		if err := b.registration(ctx, model); err != nil {
			return err
		}
	}
	for _, model := range models {
		if err := b.profile(ctx, model); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) registration(ctx context.Context, model string) error {
	what, err := b.whatOf(model)
	if err != nil {
		return err
	}
	b.say("one %s, %d rounds", what, b.extent.rounds)
	p, err := b.newProject(model)
	if err != nil {
		return err
	}
	var stage, same, fewest, ours []spent
	for round := range b.extent.rounds + 1 {
		s, err := timed(ctx, b.env, p.root, b.python, b.rival("log_model.py"), p.model, p.metrics, p.name+"-stage")
		if err != nil {
			return err
		}
		r, err := b.bare(ctx, "same", p, 1, 1)
		if err != nil {
			return err
		}
		f, err := b.bare(ctx, "fewest", p, 1, 1)
		if err != nil {
			return err
		}
		o, _, err := b.registered(ctx, p)
		if err != nil {
			return err
		}
		if round > 0 { // the first round warms up
			stage, same, fewest, ours = append(stage, s), append(same, r), append(fewest, f), append(ours, o)
		}
	}
	wall := median(walls(ours))
	for _, rival := range []struct {
		against string
		all     []spent
		target  func(times float64) verdict
	}{
		{"Python stage", stage, func(times float64) verdict { return fraction(1/times, 15) }},
		{"bare script", same, func(times float64) verdict { return atMost(times, 2.5, " times") }},
		{"fewest requests", fewest, func(times float64) verdict { return toKnow(times, " times") }},
	} {
		b.report.add(what+", wall, against the "+rival.against, seconds(wall), seconds(median(walls(rival.all))), rival.target(ratio(walls(ours), walls(rival.all))))
	}
	b.report.add(what+", CPU of starter and worker", seconds(median(cpus(ours))), seconds(median(cpus(stage))), fraction(ratio(cpus(stage), cpus(ours)), 40))
	b.report.add(what+", peak memory of the worker", megabytes(median(peaks(ours))), megabytes(median(peaks(stage))), fraction(ratio(peaks(stage), peaks(ours)), 6))
	return nil
}

// whatOf says what a registration of a model is one of.
func (b *bench) whatOf(model string) (string, error) {
	info, err := os.Stat(b.path(model + ".joblib"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("registration of %.1f MB", float64(info.Size())/1e6), nil
}

// profile is one registration more, to see where its time goes.
func (b *bench) profile(ctx context.Context, model string) error {
	what, err := b.whatOf(model)
	if err != nil {
		return err
	}
	p, err := b.newProject(model)
	if err != nil {
		return err
	}
	if _, _, err := b.registered(ctx, p); err != nil { // so that the other one has a version before it, as usual
		return err
	}
	before, err := b.answered(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	o, r, err := b.registered(ctx, p)
	if err != nil {
		return err
	}
	after, err := b.answered(ctx)
	if err != nil {
		return err
	}
	events, err := b.history(ctx, r.WorkflowID)
	if err != nil {
		return err
	}
	asked := since(before, after)
	b.report.profiles = append(b.report.profiles, profileOf(what, events, began, o.wall, asked))
	b.report.add("Temporal events of one "+what, fmt.Sprint(len(events)), "", atMost(float64(len(events)), 60, ""))
	b.report.add("requests to MLflow of one "+what, fmt.Sprint(asked["MLflow"].count), "", atMost(float64(asked["MLflow"].count), 30, ""))
	return nil
}

// bare is the bare script: the same requests or the fewest, for so many registrations in so many threads.
func (b *bench) bare(ctx context.Context, requests string, p project, count, threads int) (spent, error) {
	return timed(ctx, b.env, p.root, b.python, b.rival("rest_calls.py"), requests, p.model, p.metrics, p.name+"-"+requests,
		strconv.Itoa(count), strconv.Itoa(threads), b.mlflow.URI)
}

// registered is one registration: the wall time of the starter, the CPU of starter and worker, the peak of the worker.
func (b *bench) registered(ctx context.Context, p project) (spent, receipt.Receipt, error) {
	pid := b.worker.PID()
	if err := forgetPeak(pid); err != nil {
		return spent{}, receipt.Receipt{}, err
	}
	before, err := cpuOf(pid)
	if err != nil {
		return spent{}, receipt.Receipt{}, err
	}
	s, r, err := b.register(ctx, p)
	if err != nil {
		return s, r, err
	}
	after, err := cpuOf(pid)
	if err != nil {
		return s, r, err
	}
	s.cpu += after - before
	s.peakBytes, err = memoryOf(pid, "VmHWM")
	return s, r, err
}

// history are the events of the newest execution of a workflow.
func (b *bench) history(ctx context.Context, workflowID string) ([]*historypb.HistoryEvent, error) {
	var events []*historypb.HistoryEvent
	for iterator := b.client.GetWorkflowHistory(ctx, workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); iterator.HasNext(); {
		event, err := iterator.Next()
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	return events, nil
}

// tookOf is how long an activity ran, as the history has it.
func tookOf(events []*historypb.HistoryEvent, activity string) (time.Duration, error) {
	for _, ended := range events {
		completed := ended.GetActivityTaskCompletedEventAttributes()
		if completed == nil || events[completed.GetScheduledEventId()-1].GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() != activity {
			continue
		}
		return ended.GetEventTime().AsTime().Sub(events[completed.GetStartedEventId()-1].GetEventTime().AsTime()), nil
	}
	return 0, fmt.Errorf("the history has no %s that completed", activity)
}

// largeFile measures what grows with the size of the file.
func (b *bench) largeFile(ctx context.Context) error {
	size := fmt.Sprintf("%.1f GB", float64(b.extent.largeBytes)/1e9)
	b.say("a file of %s, %d rounds", size, b.extent.largeRounds)
	p, err := b.newProject("large")
	if err != nil {
		return err
	}
	var frozen, tools, uploaded, curled []time.Duration
	var peaks []int64
	ours := func() error {
		if err := b.level(); err != nil {
			return err
		}
		began := time.Now()
		s, r, err := b.registered(ctx, p)
		if err != nil {
			return err
		}
		events, err := b.history(ctx, r.WorkflowID)
		if err != nil {
			return err
		}
		inspect, err := tookOf(events, "SnapshotModel")
		if err != nil {
			return err
		}
		upload, err := tookOf(events, "UploadModel")
		frozen = append(frozen, events[0].GetEventTime().AsTime().Sub(began)+inspect)
		uploaded, peaks = append(uploaded, upload), append(peaks, s.peakBytes)
		return err
	}
	theirs := func() error {
		if err := b.level(); err != nil {
			return err
		}
		copying, uploading, err := b.byTools(ctx, p)
		tools, curled = append(tools, copying), append(curled, uploading)
		return err
	}
	for round := range b.extent.largeRounds {
		turns := []func() error{ours, theirs}
		if round%2 == 0 {
			slices.Reverse(turns)
		}
		for _, turn := range turns {
			if err := turn(); err != nil {
				return err
			}
		}
		if err := b.removeArtifacts(); err != nil {
			return err
		}
	}
	b.report.add("freezing, hashing and inspecting "+size+", against sha256sum, cp and fsync", seconds(median(frozen)), seconds(median(tools)),
		atMost(ratio(frozen, tools), 1.2, " times"))
	b.report.add("upload of "+size+", against curl -T", seconds(median(uploaded)), seconds(median(curled)), atMost(ratio(uploaded, curled), 1.1, " times"))
	b.report.add("peak memory of the worker meanwhile", megabytes(median(peaks)), "", atMost(float64(median(peaks))/(1<<20), 64, " MiB"))
	return b.inParts(ctx)
}

// byTools is how long it takes to hash a project's model and to copy it onto the disk, and then, with the copy there as the frozen one is, to upload it by
// curl.
func (b *bench) byTools(ctx context.Context, p project) (copying, uploading time.Duration, err error) {
	copied := b.path("copy")
	defer func() { err = errors.Join(err, os.Remove(copied)) }()
	hash, err := timed(ctx, b.env, p.root, "sha256sum", p.model)
	if err != nil {
		return 0, 0, err
	}
	cp, err := timed(ctx, b.env, p.root, "cp", "--reflink=auto", p.model, copied)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := syncFile(copied); err != nil {
		return 0, 0, err
	}
	copying = hash.wall + cp.wall + time.Since(began)
	curl, err := timed(ctx, b.env, p.root, "curl", "--silent", "--fail", "--upload-file", copied, b.mlflow.URI+"/api/2.0/mlflow-artifacts/artifacts/curl/model.pkl")
	return copying, curl.wall, err
}

// level lets whoever is measured next with the large file find the machine as the one before: nothing to be written, and memory for all that they make of
// the file, which is a copy and the uploaded one.
func (b *bench) level() error {
	syscall.Sync()
	return touchMemory(3 * b.extent.largeBytes)
}

func syncFile(name string) error {
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// removeArtifacts makes room on the disk: nobody loads what was uploaded.
func (b *bench) removeArtifacts() error {
	folders, err := filepath.Glob(filepath.Join(b.mlflow.Dir, "artifacts", "*"))
	for _, folder := range folders {
		err = errors.Join(err, os.RemoveAll(folder))
	}
	return err
}

// throughput measures many small registrations, as many at a time as the bare script has threads.
func (b *bench) throughput(ctx context.Context) error {
	n, threads := b.extent.crowd, b.extent.threads
	b.say("%d registrations, %d at a time, %d rounds", n, threads, b.extent.crowdRounds)
	p, err := b.newProject("small")
	if err != nil {
		return err
	}
	var same, fewest, ours []time.Duration
	spent := make([][]time.Duration, 3) // by MLflow, Temporal and the worker, in each round
	for range b.extent.crowdRounds {
		s, err := b.bare(ctx, "same", p, n, threads)
		if err != nil {
			return err
		}
		f, err := b.bare(ctx, "fewest", p, n, threads)
		if err != nil {
			return err
		}
		before, err := b.cpuOfEach()
		if err != nil {
			return err
		}
		took, err := b.crowd(ctx, n, threads)
		if err != nil {
			return err
		}
		after, err := b.cpuOfEach()
		if err != nil {
			return err
		}
		same, fewest, ours = append(same, s.wall), append(fewest, f.wall), append(ours, took)
		for i := range spent {
			spent[i] = append(spent[i], after[i]-before[i])
		}
	}
	perMinute := func(took []time.Duration) string { return fmt.Sprintf("%.0f", float64(n)/median(took).Minutes()) }
	what := fmt.Sprintf("registrations a minute, %d at a time, against the ", threads)
	b.report.add(what+"bare script", perMinute(ours), perMinute(same), atLeast(ratio(same, ours), 0.8, " of it"))
	for i, process := range []string{"MLflow", "Temporal", "the worker"} {
		each := median(spent[i]) / time.Duration(n)
		b.report.add("processor time of "+process+" for one of them", fmt.Sprintf("%d ms", each.Milliseconds()), "",
			toKnow(100*ratio(spent[i], ours), " % of a processor"))
	}
	b.report.add(what+"fewest requests", perMinute(ours), perMinute(fewest), toKnow(ratio(fewest, ours), " of it"))
	return nil
}

// crowd is how long n registrations take, so many at a time.
func (b *bench) crowd(ctx context.Context, n, threads int) (time.Duration, error) {
	projects := make(chan project, n)
	for range n {
		p, err := b.newProject("small")
		if err != nil {
			return 0, err
		}
		projects <- p
	}
	close(projects)
	began := time.Now()
	failed := make(chan error, threads)
	var all sync.WaitGroup
	for range threads {
		all.Go(func() {
			for p := range projects {
				if err := b.startAndWait(ctx, p); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	return time.Since(began), <-failed
}

// cpuOfEach is the processor time of MLflow, Temporal and the worker so far.
func (b *bench) cpuOfEach() ([]time.Duration, error) {
	var each []time.Duration
	for _, pid := range []int{b.mlflow.PID(), b.temporal.PID(), b.worker.PID()} {
		cpu, err := cpuOfTree(pid)
		if err != nil {
			return nil, err
		}
		each = append(each, cpu)
	}
	return each, nil
}

// startAndWait registers a project as `temporal workflow start` does: the worker freezes it.
func (b *bench) startAndWait(ctx context.Context, p project) error {
	run, err := b.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "bench/" + p.name, TaskQueue: workflows.TaskQueue},
		workflows.TypeRegisterModel, workflows.RegisterInput{Root: p.root})
	if err != nil {
		return err
	}
	var r receipt.Receipt
	if err := run.Get(ctx, &r); err != nil {
		return err
	}
	if r.Outcome != receipt.Registered {
		return fmt.Errorf("register %s: outcome %q, %s", p.name, r.Outcome, r.Error)
	}
	return nil
}
