package mlflow

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// expectContinueBytes is the size from which an upload asks before it sends. A server that refuses (401, 413) then says
// so, instead of cutting a connection that is still being written to, which would lose its answer.
const expectContinueBytes = 1 << 20

// newTransport is HTTP/1.1 only, which it is by having its own dialer: HTTP/2 sends requests again on its own accord,
// and would take TCP_USER_TIMEOUT's meaning away by sharing the connection.
func newTransport(config Config) (*http.Transport, error) {
	tlsConfig, err := newTLSConfig(config.TLS)
	if err != nil {
		return nil, err
	}
	timeouts := config.Timeouts
	dialer := &net.Dialer{Timeout: timeouts.Dial, Control: userTimeout(timeouts.User)}
	return &http.Transport{
		Proxy:                 proxy,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   timeouts.TLSHandshake,
		ResponseHeaderTimeout: timeouts.ResponseHeader,
		// What does not know Expect keeps us waiting this long for each large file.
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   16,
		// Below the 5 s after which uvicorn, MLflow's server, closes an idle connection: writing to one that is just
		// being closed leaves the outcome open for nothing.
		IdleConnTimeout:        4 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}, nil
}

// newHTTPClient follows no redirect: it could lead credentials, and a POST, to another host.
func newHTTPClient(transport *http.Transport) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// proxy is http.ProxyFromEnvironment, whose error shows the variable's value: it may hold a password.
func proxy(request *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(request)
	if err != nil {
		return nil, errors.New("read HTTP_PROXY, HTTPS_PROXY: not the URL of a proxy")
	}
	return u, nil
}

func newTLSConfig(settings TLS) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: settings.InsecureSkipVerify, //nolint:gosec // the user's own MLFLOW_TRACKING_INSECURE_TLS
	}
	if settings.ServerCertFile != "" {
		pem, err := os.ReadFile(settings.ServerCertFile)
		if err != nil {
			return nil, fmt.Errorf("read MLFLOW_TRACKING_SERVER_CERT_PATH: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read MLFLOW_TRACKING_SERVER_CERT_PATH %s: no certificate in it; "+
				"right would be a PEM bundle of authorities", settings.ServerCertFile)
		}
	}
	if file := settings.ClientCertFile; file != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(file, file)
			if err != nil {
				return nil, fmt.Errorf("read MLFLOW_TRACKING_CLIENT_CERT_PATH %s: "+
					"right would be a PEM file with certificate and key: %w", file, err)
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return config, nil
}

// errDeadlinePassed is the cause where a process was frozen past the deadline of what it does.
var errDeadlinePassed = fmt.Errorf("not sent, since its time was over: %w", context.DeadlineExceeded)

// watch follows one request: how far it came, and whether its body, either way, makes progress.
type watch struct {
	request *http.Request
	cancel  context.CancelCauseFunc
	writing patience
	reading patience

	phase     atomic.Value // Layer: the last that was entered while connecting
	connected atomic.Bool  // from here on bytes may have been written
	late      atomic.Bool  // the body was withheld, so the request was never complete
}

// watchRequest gives the request its body and the hooks that watch it.
func watchRequest(request *http.Request, body io.Reader, stall time.Duration) *watch {
	ctx, cancel := context.WithCancelCause(request.Context())
	expired := func() { cancel(fmt.Errorf("%w for %v", ErrStalled, stall)) }
	w := &watch{
		cancel:  cancel,
		writing: patience{stall: stall, expired: expired},
		reading: patience{stall: stall, expired: expired},
	}
	w.phase.Store(LayerTCP)
	w.request = request.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { w.phase.Store(LayerDNS) },
		ConnectStart:      func(string, string) { w.phase.Store(LayerTCP) },
		TLSHandshakeStart: func() { w.phase.Store(LayerTLS) },
		GotConn:           func(httptrace.GotConnInfo) { w.connected.Store(true); w.writing.renew() },
		WroteRequest:      func(httptrace.WroteRequestInfo) { w.writing.end() },
	}))
	if body != nil && request.ContentLength > 0 {
		w.request.Body = io.NopCloser(&punctualReader{body: body, left: request.ContentLength, watch: w})
	}
	return w
}

// punctualReader gives out a body only while its time is not over. net/http asks for it once it is connected, and
// writes the end of the request only after it has read the whole body, so that a process that was frozen anywhere before
// sends nothing that the server could act on. Once all is given out it is too late to hold anything back.
type punctualReader struct {
	body  io.Reader
	left  int64
	watch *watch
}

func (r *punctualReader) Read(p []byte) (int, error) {
	if r.left > 0 && deadlinePassed(r.watch.request.Context()) {
		r.watch.late.Store(true)
		return 0, errDeadlinePassed
	}
	r.watch.writing.renew()
	n, err := r.body.Read(p)
	r.left -= int64(n)
	return n, err
}

// deadlinePassed compares by the wall clock: Go's timers stand still while the machine sleeps, the deadline does not.
func deadlinePassed(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Round(0).Before(deadline.Round(0))
}

// patience is the time that one body has to move. Each direction has its own: the answer may begin before net/http has
// told that the request is written.
type patience struct {
	stall   time.Duration
	expired func()

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// renew starts the time, again.
func (p *patience) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
	case p.timer == nil:
		p.timer = time.AfterFunc(p.stall, p.expired)
	default:
		p.timer.Reset(p.stall)
	}
}

// end stops the time for good.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

func (w *watch) stop() {
	w.writing.end()
	w.reading.end()
	w.cancel(nil)
}

// answer is the response's body under watch.
func (w *watch) answer(body io.Reader) io.Reader {
	w.writing.end() // an answer may come early, and then the rest of the request does not matter
	return &progressReader{body: body, patience: &w.reading}
}

type progressReader struct {
	body     io.Reader
	patience *patience
}

func (r *progressReader) Read(p []byte) (int, error) {
	r.patience.renew()
	return r.body.Read(p)
}

// sent is false where the server cannot have got the whole request.
func (w *watch) sent() bool { return w.connected.Load() && !w.late.Load() }

func (w *watch) layer(err error) Layer {
	// TLS 1.3 refuses a client's certificate only after the client is done with the handshake; crypto/tls marks what the
	// server says then by this word.
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "remote error" {
		return LayerTLS
	}
	if w.connected.Load() {
		return LayerHTTP
	}
	return w.phase.Load().(Layer)
}

// cause is why the request ended, without the URL that net/http puts before it.
func (w *watch) cause(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if cause := context.Cause(w.request.Context()); errors.Is(cause, ErrStalled) {
		return cause
	}
	return err
}
