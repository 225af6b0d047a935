package main

import (
	"fmt"
	"io"
	"time"
)

// steps numbers what the demo does and shows that it goes on. The zero value of number is before the first step.
type steps struct {
	out    io.Writer
	number int
	total  int
}

// quiet runs a step that prints nothing itself: a dot a second, and then its result and how long it took.
func (s *steps) quiet(name string, work func() (result string, err error)) error {
	s.begin(name)
	finished := make(chan struct{})
	dotted := make(chan struct{})
	go func() {
		defer close(dotted)
		s.dots(finished)
	}()
	start := time.Now()
	result, err := work()
	close(finished)
	<-dotted
	if err != nil {
		fmt.Fprintln(s.out)
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(s.out, " %s (%s)\n", result, time.Since(start).Round(100*time.Millisecond))
	return nil
}

// talking runs a step that prints its own progress, below its name.
func (s *steps) talking(name string, work func() error) error {
	s.begin(name)
	fmt.Fprintln(s.out)
	if err := work(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// done counts a step for which there was nothing to do.
func (s *steps) done(name, result string) {
	s.begin(name)
	fmt.Fprintf(s.out, " %s\n", result)
}

// note says something in the middle of a step.
func (s *steps) note(text string) { fmt.Fprintf(s.out, " %s;", text) }

func (s *steps) begin(name string) {
	s.number++
	fmt.Fprintf(s.out, "[%d/%d] %s:", s.number, s.total, name)
}

func (s *steps) dots(finished <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-finished:
			return
		case <-tick.C:
			fmt.Fprint(s.out, ".")
		}
	}
}
