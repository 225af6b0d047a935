package waiting

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

// outage is a fake MLflow server that can be down: it then answers 503 to everything, and notes when somebody asked.
type outage struct {
	*mlflowtest.Server

	mu      sync.Mutex
	down    bool
	asked   []time.Time // while it was down
	served  time.Time   // the first request since it is up; zero: none
	refuses func(body string) bool
}

func newOutage(t testing.TB) *outage {
	o := &outage{Server: mlflowtest.NewServer(t), down: true}
	o.Intercept(o.decide)
	return o
}

func (o *outage) decide(r *http.Request) mlflowtest.Fault {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return mlflowtest.Fault{Drop: true}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	switch {
	case o.down:
		o.asked = append(o.asked, now)
		return mlflowtest.Fault{Status: http.StatusServiceUnavailable}
	case o.refuses != nil && strings.HasSuffix(r.URL.Path, "/runs/create") && o.refuses(string(body)):
		return mlflowtest.Fault{Status: http.StatusServiceUnavailable}
	case o.served.IsZero():
		o.served = now
	}
	return mlflowtest.Fault{}
}

// end puts the server up.
func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = false
}

// refuseRuns answers 503 to the first requests of each registration to make a run, though the server is up: whoever waits for the server
// then is woken at once, and waits again.
func (o *outage) refuseRuns(times int) {
	refused := map[string]int{}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refuses = func(body string) bool {
		key := keyIn(body)
		refused[key]++
		return refused[key] <= times
	}
}

// keyIn is the registration key in a request to make a run.
func keyIn(body string) string {
	var request mlflow.CreateRunRequest
	_ = json.Unmarshal([]byte(body), &request) // what cannot be read has no key
	for _, tag := range request.Tags {
		if tag.Key == activities.TagKey {
			return tag.Value
		}
	}
	return ""
}

func (o *outage) firstServed() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.served
}

// askedSince counts the requests that came since a time, while it was down.
func (o *outage) askedSince(began time.Time) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, at := range o.asked {
		if at.After(began) {
			n++
		}
	}
	return n
}
