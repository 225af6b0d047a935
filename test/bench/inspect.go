package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// inspection measures `starter inspect`, in a process of its own, on a large file and on a compressed one, each in the page cache.
func (b *bench) inspection(ctx context.Context) error {
	for _, m := range []struct{ file, how, against, flag string }{
		{"large.joblib", "", "reading and hashing by OpenSSL", ""},
		{"compressed.joblib", ", compress=3", "that, and zlib", "--zlib"},
	} {
		file := b.path(m.file)
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		size := fmt.Sprintf("%.1f GB%s", float64(info.Size())/1e9, m.how)
		if info.Size() < 1e8 {
			size = fmt.Sprintf("%.0f MB%s", float64(info.Size())/1e6, m.how)
		}
		b.say("inspecting %s, %d rounds", size, b.extent.largeRounds)
		var inspected, rival []time.Duration
		var peaks []int64
		for round := range b.extent.largeRounds + 1 {
			r, err := timed(ctx, b.env, b.folder, b.python, b.rival("read_file.py"), file, m.flag)
			if err != nil {
				return err
			}
			i, err := timed(ctx, b.env, b.folder, b.path("starter"), "inspect", file)
			if err != nil {
				return err
			}
			if round > 0 { // the first one brings the file into the cache
				rival, inspected, peaks = append(rival, r.wall), append(inspected, i.wall), append(peaks, i.peakBytes)
			}
		}
		b.report.add("starter inspect of "+size+", against "+m.against, seconds(median(inspected)), seconds(median(rival)),
			atMost(ratio(inspected, rival), 2, " times"))
		b.report.add("its peak memory", megabytes(median(peaks)), "", atMost(float64(median(peaks))/(1<<20), 64, " MiB"))
	}
	return nil
}
