package chaos

import (
	"net/http"
	"strings"
)

// Fault is what may befall a request, or the worker that has just sent it.
type Fault struct {
	Name string
	// OnReads tells that it makes sense for a request that changes nothing: there, whether it was applied is all the same.
	OnReads bool
	// UploadsOnly tells that it is about the body of a large request.
	UploadsOnly bool
	// Worker tells that it befalls the worker, which then must be the registration's own.
	Worker bool

	befall func(*Exchange)
}

// Applies tells whether the fault makes sense for a request.
func (f Fault) Applies(e *Exchange) bool {
	if f.UploadsOnly {
		return e.IsUpload()
	}
	return f.OnReads || e.Changes()
}

// Faults are all faults of the matrix, except those that make sense only for the one request that creates a version.
var Faults = []Fault{
	{Name: "reset-before", OnReads: true, befall: (*Exchange).Reset},
	{Name: "reset-after", OnReads: true, befall: func(e *Exchange) { e.Apply(); e.Reset() }},
	{Name: "reset-in-body", UploadsOnly: true, befall: func(e *Exchange) { e.ApplyHalf(); e.Reset() }},

	{Name: "500-before", OnReads: true, befall: func(e *Exchange) { e.answerMLflowError(http.StatusInternalServerError, "INTERNAL_ERROR") }},
	{Name: "502-before", OnReads: true, befall: func(e *Exchange) { e.answerPage(http.StatusBadGateway) }},
	{Name: "503-before", OnReads: true, befall: func(e *Exchange) { e.answerMLflowError(http.StatusServiceUnavailable, "TEMPORARILY_UNAVAILABLE") }},
	{Name: "504-before", OnReads: true, befall: func(e *Exchange) { e.answerPage(http.StatusGatewayTimeout) }},
	{Name: "500-after", befall: func(e *Exchange) { e.Apply(); e.answerMLflowError(http.StatusInternalServerError, "INTERNAL_ERROR") }},
	{Name: "503-after", befall: func(e *Exchange) { e.Apply(); e.answerPage(http.StatusServiceUnavailable) }},
	{Name: "429", OnReads: true, befall: func(e *Exchange) {
		e.Answer(http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}, nil)
	}},

	{Name: "silent-applied", OnReads: true, befall: func(e *Exchange) { e.Apply(); e.Silence() }},
	{Name: "silent-dropped", befall: (*Exchange).Silence},
	{Name: "late-after-look", befall: func(e *Exchange) { e.ApplyLater(afterLookUp(e)); e.Silence() }},
	{Name: "late-at-end", befall: func(e *Exchange) { e.ApplyLater(never); e.Silence() }},

	{Name: "truncated", OnReads: true, befall: func(e *Exchange) { e.Apply(); e.Truncate() }},
	{Name: "html-before", OnReads: true, befall: func(e *Exchange) { e.answerPage(http.StatusOK) }},
	{Name: "html-after", befall: func(e *Exchange) { e.Apply(); e.answerPage(http.StatusOK) }},
	{Name: "redirect", OnReads: true, befall: func(e *Exchange) {
		e.Answer(http.StatusFound, http.Header{"Location": {"https://login.example.com/?next=mlflow"}}, nil)
	}},
	{Name: "413", UploadsOnly: true, befall: func(e *Exchange) { e.answerPage(http.StatusRequestEntityTooLarge) }},

	{Name: "kill-before", OnReads: true, Worker: true, befall: func(e *Exchange) { e.proxy.Kill() }},
	{Name: "kill-after", OnReads: true, Worker: true, befall: func(e *Exchange) { e.Apply(); e.proxy.Kill() }},
	// The answer waits in the socket: the worker that wakes reads it, and goes on with its next request.
	{Name: "freeze", OnReads: true, Worker: true, befall: func(e *Exchange) { e.proxy.Freeze(); e.Apply(); e.PassBack() }},
}

// CreateVersion is the request that is sent once for a logged model.
const CreateVersion = "POST model-versions/create"

// FenceFaults are for CreateVersion: the version comes while its logged model is being deleted, since no look-up has seen it.
var FenceFaults = []Fault{
	{Name: "late-before-fence", befall: func(e *Exchange) { e.ApplyLater(beforeFence); e.Silence() }},
	{Name: "late-after-fence", befall: func(e *Exchange) { e.ApplyLater(afterFence); e.Silence() }},
}

// FaultsOf are all faults that make sense for a request.
func FaultsOf(e *Exchange) []Fault {
	var all []Fault
	for _, f := range Faults {
		if f.Applies(e) {
			all = append(all, f)
		}
	}
	if e.pattern == CreateVersion {
		all = append(all, FenceFaults...)
	}
	return all
}

// afterLookUp is when the request that looks whether e was applied has been answered, and has not seen it. Where nothing looks, it is
// when e's repetition has been answered: e then comes after it.
func afterLookUp(e *Exchange) func(*Exchange, bool) bool {
	look := map[string]string{
		"POST runs/create":        "POST runs/search",
		"POST logged-models":      "POST logged-models/search",
		CreateVersion:             "GET model-versions/search",
		"POST runs/outputs":       "GET runs/get",
		"POST experiments/create": "GET experiments/get-by-name",
	}[e.pattern]
	if look == "" {
		look = e.pattern
	}
	return func(other *Exchange, answered bool) bool { return answered && other.pattern == look }
}

// never: what is kept back is applied at the end.
func never(*Exchange, bool) bool { return false }

func isFence(other *Exchange) bool { return strings.HasPrefix(other.pattern, "DELETE logged-models/") }

func beforeFence(other *Exchange, answered bool) bool { return !answered && isFence(other) }
func afterFence(other *Exchange, answered bool) bool  { return answered && isFence(other) }

// answerMLflowError is an error as MLflow itself words it.
func (e *Exchange) answerMLflowError(status int, code string) {
	e.Answer(status, http.Header{"Content-Type": {"application/json"}}, []byte(`{"error_code": "`+code+`", "message": "made by the proxy"}`))
}

// answerPage is what a proxy in between says, in HTML.
func (e *Exchange) answerPage(status int) {
	page := "<html><head><title>" + http.StatusText(status) + "</title></head><body><h1>nginx</h1></body></html>"
	e.Answer(status, http.Header{"Content-Type": {"text/html"}}, []byte(page))
}
