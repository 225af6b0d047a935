package waiting

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
)

// usage is what processes have used of the machine at a time, in the order in which they were asked for.
type usage struct {
	at        time.Time
	seconds   []float64 // of CPU, since each began
	megabytes []float64 // resident
}

// ticks is how many clock ticks /proc counts a second: USER_HZ, which Linux shows as 100 on every architecture of Go.
const ticks = 100

func usageOf(t testing.TB, pids ...int) usage {
	t.Helper()
	u := usage{at: time.Now()}
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(t, err)
		// After the command's name, which is in brackets and may hold anything: state, and from there on proc(5) has utime, stime and rss as the
		// 12th, 13th and 22nd.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		u.seconds = append(u.seconds, (numberIn(t, fields[11])+numberIn(t, fields[12]))/ticks)
		u.megabytes = append(u.megabytes, numberIn(t, fields[21])*float64(os.Getpagesize())/1e6)
	}
	return u
}

func numberIn(t testing.TB, field []byte) float64 {
	t.Helper()
	number, err := strconv.ParseFloat(string(field), 64)
	require.NoError(t, err)
	return number
}

// cost is what processes used between two looks.
type cost struct {
	over      time.Duration
	cpu       []float64 // parts of a core
	megabytes []float64 // at the end
}

func (u usage) since(before usage) cost {
	c := cost{over: u.at.Sub(before.at), megabytes: u.megabytes}
	for i := range u.seconds {
		c.cpu = append(c.cpu, (u.seconds[i]-before.seconds[i])/c.over.Seconds())
	}
	return c
}

// figures are what was measured, in the order in which they are printed.
type figures []struct {
	name  string
	value any
}

// print shows the figures as soon as they are there, where it is for them that the test is run.
func (f figures) print() {
	if !*full {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, figure := range f {
		if number, ok := figure.value.(float64); ok {
			figure.value = fmt.Sprintf("%.1f", number)
		}
		fmt.Fprintf(w, "%s\t%v\n", figure.name, figure.value)
	}
	_ = w.Flush() // a standard output that is gone takes the figures with it
}
