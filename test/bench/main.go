// Command bench measures registrations against what they replace and what bounds them, side by side in one run: the original Python
// stage, a bare script with the same REST calls, curl, sha256sum and cp. Seconds are the machine's; what counts are the ratios.
//
// It knows how to measure and what the targets are. It starts its own servers and its own worker, and writes what it found to
// docs/benchmarks.md, or prints it alone with -quick, which is too small to be published.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"registrar/internal/servertest"
)

// extent is how much is measured.
type extent struct {
	rounds, largeRounds int
	largeBytes          int64
	crowd, threads      int // registrations for the throughput, and how many at a time
	crowdRounds         int
	restSeconds         int
}

var (
	fullExtent  = extent{rounds: 7, largeRounds: 7, largeBytes: 2_000_000_000, crowd: 80, threads: 8, crowdRounds: 3, restSeconds: 30}
	quickExtent = extent{rounds: 2, largeRounds: 1, largeBytes: 200_000_000, crowd: 12, threads: 4, crowdRounds: 1, restSeconds: 5}
)

func main() {
	quick := flag.Bool("quick", false, "measure little, and only print it")
	only := flag.String("only", "", "one of rest, registrations, large, inspection, throughput: measure that, and only print it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *quick, *only)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, quick bool, only string) error {
	e := fullExtent
	if quick {
		e = quickExtent
	}
	b, err := openBench(ctx, e)
	if err != nil {
		return err
	}
	defer b.close()
	for _, m := range []struct {
		name    string
		measure func(context.Context) error
	}{{"rest", b.atRest}, {"registrations", b.registrations}, {"large", b.largeFile}, {"inspection", b.inspection}, {"throughput", b.throughput}} {
		if only != "" && only != m.name {
			continue
		}
		if err := m.measure(ctx); err != nil {
			return fmt.Errorf("measure %s: %w", m.name, err)
		}
	}
	about, err := b.about(ctx)
	if err != nil {
		return err
	}
	page := b.report.markdown(about)
	fmt.Printf("\n%s", page)
	if quick || only != "" {
		return nil
	}
	return os.WriteFile(filepath.Join(servertest.Root(), "docs", "benchmarks.md"), []byte(page), 0o644)
}
