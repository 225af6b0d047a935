package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"

	"registrar/internal/receipt"
	"registrar/workflows"
)

// census counts the registrations of the namespace that have not ended, by asking Temporal when somebody asks for the metrics. Every worker
// of a fleet counts all of them.
type census struct {
	log *zap.Logger

	mu      sync.Mutex
	client  client.Client // nil while Temporal is away
	counted time.Time
	last    tally
}

// tally is what a census found.
type tally struct {
	complete bool
	states   map[receipt.State]int64
	waiting  map[place]int64
	oldest   time.Duration // age of the oldest registration that waits; 0 where none does
}

// place is what registrations wait for.
type place struct{ server, layer string }

const (
	// countAgainAfter bounds what scraping costs the Temporal server: one count, and some more where registrations wait.
	countAgainAfter = 10 * time.Second
	// countWithin is how long a scrape is held up.
	countWithin = 5 * time.Second
	// maxServers bounds the servers that are told apart.
	maxServers = 20
)

const everyWorker = " Counted in the whole namespace by every worker that is asked: take max(), not sum()."

var (
	openRegistrations = prometheus.NewDesc("registrar_registrations", "Registrations that have not ended, by state."+everyWorker, []string{"state"}, nil)
	waitingFor        = prometheus.NewDesc("registrar_registrations_waiting",
		"Registrations that wait for MLflow or are blocked (layer auth), by server and by the layer that does not answer."+everyWorker, []string{"server", "layer"}, nil)
	oldestWaiting = prometheus.NewDesc("registrar_oldest_waiting_age_seconds",
		"Time since the oldest registration that waits or is blocked was started, to within 5 %; 0 where none is."+everyWorker, nil, nil)
	censusUp = prometheus.NewDesc("registrar_census_up", "1 where Temporal answered the last count of registrations; the others are absent where it is 0.", nil, nil)
)

// Describe is what is collected.
func (c *census) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openRegistrations, waitingFor, oldestWaiting, censusUp} {
		descriptions <- d
	}
}

// Collect counts, or tells the last count where it is fresh.
func (c *census) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.counted) > countAgainAfter {
		c.count()
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if !c.last.complete {
		gauge(censusUp, 0)
		return
	}
	gauge(censusUp, 1)
	for state, count := range c.last.states {
		gauge(openRegistrations, float64(count), string(state))
	}
	for at, count := range c.last.waiting {
		gauge(waitingFor, float64(count), at.server, at.layer)
	}
	gauge(oldestWaiting, c.last.oldest.Seconds())
}

// connect says who is asked; nil where nobody is there.
func (c *census) connect(temporalClient client.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client, c.counted = temporalClient, time.Time{}
}

func (c *census) count() {
	c.last = tally{}
	if c.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), countWithin)
	defer cancel()
	counted := counting{ctx: ctx, client: c.client}
	counted.all()
	if counted.err != nil {
		c.log.Debug("registrations cannot be counted", zap.Error(counted.err))
	}
	counted.tally.complete = counted.err == nil
	c.last, c.counted = counted.tally, time.Now()
}

// counting is a census under way. After an error it asks no more.
type counting struct {
	ctx    context.Context
	client client.Client
	tally  tally
	err    error
}

func (c *counting) all() {
	c.tally.states = map[receipt.State]int64{receipt.Waiting: 0, receipt.Blocked: 0, receipt.PendingApproval: 0}
	c.tally.waiting = map[place]int64{}
	// One that no worker has taken up yet has no state, and in a namespace without the attributes none has: they count as running.
	running := c.number(open)
	if running > 0 {
		for state := range c.tally.states {
			c.tally.states[state] = c.number(open, is(workflows.AttributeState, string(state)))
			running -= c.tally.states[state]
		}
	}
	c.tally.states[receipt.Running] = max(0, running)
	if waiting := c.tally.states[receipt.Waiting] + c.tally.states[receipt.Blocked]; waiting > 0 {
		c.places(waiting)
		c.age()
	}
}

// The queries that the others narrow down.
var (
	open    = "WorkflowType = '" + workflows.TypeRegisterModel + "' AND ExecutionStatus = 'Running'"
	waiting = open + " AND " + workflows.AttributeState + " IN ('" + string(receipt.Waiting) + "', '" + string(receipt.Blocked) + "')"
)

func is(attribute, value string) string { return attribute + " = " + quoted(value) }

// quoted is a text in a visibility query, as in SQL.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// places tells apart what all those wait for: one of them tells its server, another one is of none of the servers that are known by then.
func (c *counting) places(all int64) {
	var known []string
	for all > 0 && len(known) < maxServers && c.err == nil {
		query := waiting
		if len(known) > 0 {
			query += " AND " + workflows.AttributeServer + " NOT IN (" + strings.Join(known, ", ") + ")"
		} else {
			query += " AND " + workflows.AttributeServer + " IS NOT NULL"
		}
		server, found := c.serverOfOne(query)
		if !found {
			break
		}
		known = append(known, quoted(server))
		all -= c.layers(server, is(workflows.AttributeServer, server))
	}
	if all > 0 {
		c.tally.waiting[place{}] = all
	}
}

// layers counts those of one server, and returns how many they are.
func (c *counting) layers(server, narrowed string) int64 {
	of := c.number(waiting, narrowed)
	left := of
	for _, layer := range []string{"dns", "tcp", "tls", "http", "auth", "database", "artifact_store"} {
		if left <= 0 {
			break
		}
		if count := c.number(waiting, narrowed, is(workflows.AttributeLayer, layer)); count > 0 {
			c.tally.waiting[place{server, layer}] = count
			left -= count
		}
	}
	if left > 0 {
		c.tally.waiting[place{server: server}] = left
	}
	return of
}

// age narrows the age of the oldest down by halves, since Temporal lists the newest first and counts fast.
func (c *counting) age() {
	now := time.Now()
	olderThan := func(age time.Duration) bool {
		return c.number(waiting, "StartTime < "+quoted(now.Add(-age).UTC().Format(time.RFC3339Nano))) > 0
	}
	low, high := time.Duration(0), time.Minute
	for olderThan(high) && c.err == nil {
		low, high = high, 2*high
	}
	for high-low > max(time.Second, low/20) && c.err == nil {
		if middle := (low + high) / 2; olderThan(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	c.tally.oldest = low
}

func (c *counting) number(query string, narrowed ...string) int64 {
	if c.err != nil {
		return 0
	}
	query = strings.Join(append([]string{query}, narrowed...), " AND ")
	counted, err := c.client.CountWorkflow(c.ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
	if err != nil {
		c.err = fmt.Errorf("count workflows: %w", err)
		return 0
	}
	return counted.GetCount()
}

// serverOfOne is the server of any of those that the query finds.
func (c *counting) serverOfOne(query string) (server string, found bool) {
	if c.err != nil {
		return "", false
	}
	listed, err := c.client.ListWorkflow(c.ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, PageSize: 1})
	if err != nil {
		c.err = fmt.Errorf("list workflows: %w", err)
		return "", false
	}
	if len(listed.GetExecutions()) == 0 {
		return "", false
	}
	server = workflows.ShownBy(listed.GetExecutions()[0]).Server
	return server, server != ""
}
