package mlflow

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxErrorBytes   = 64 << 10
	maxMessageBytes = 1 << 10
)

// newAPIError reads what an answer that is no success has to say. A refusal that breaks off is an error of its own: what is not there, and what is
// there already, is told by its error code alone. Of any other answer the status says enough, also where the body is too long.
func newAPIError(call call, response *http.Response, body io.Reader) (*APIError, error) {
	text, err := io.ReadAll(io.LimitReader(body, maxErrorBytes))
	if err != nil && response.StatusCode >= 400 && response.StatusCode <= 499 {
		return nil, err
	}
	answer := &APIError{
		Method: call.method, Path: call.path, URL: redactURL(response.Request.URL), Status: response.StatusCode,
		RetryAfter: retryAfter(response.Header.Get("Retry-After"), time.Now()),
	}
	var reply struct {
		ErrorCode string `json:"error_code"`
		Message   string `json:"message"`
	}
	hide := credentialsOf(response.Request)
	switch {
	case response.StatusCode < 400:
		answer.Message = hide.Replace(redirectAdvice(response))
	case json.Unmarshal(text, &reply) == nil && reply.ErrorCode != "":
		answer.Code, answer.Message = oneLine(hide.Replace(reply.ErrorCode)), oneLine(hide.Replace(reply.Message))
	default:
		answer.Message = oneLine(hide.Replace(readable(string(text))))
	}
	return answer, nil
}

// credentialsOf hides what the request authenticated itself with: some proxies, and some servers in debug mode, put the headers that they were sent
// into their error pages, as they are or as HTML or a URL would have them.
func credentialsOf(request *http.Request) *strings.Replacer {
	_, encoded, _ := strings.Cut(request.Header.Get("Authorization"), " ")
	_, password, _ := request.BasicAuth()
	var pairs []string
	for _, secret := range []string{encoded, password} {
		if secret == "" {
			continue
		}
		for _, form := range []string{secret, html.EscapeString(secret), url.QueryEscape(secret), url.PathEscape(secret)} {
			pairs = append(pairs, form, "***")
		}
	}
	return strings.NewReplacer(pairs...)
}

// redirectAdvice names the host alone: the rest of a Location may hold a secret.
func redirectAdvice(response *http.Response) string {
	target, err := response.Location()
	if err != nil {
		return "a redirect without a readable Location; is this an MLflow server?"
	}
	return fmt.Sprintf("redirected to %s://%s, which is not followed; if that is the MLflow server, set the tracking URI to it",
		target.Scheme, target.Host)
}

var (
	htmlTitle = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)
	htmlStart = regexp.MustCompile(`(?i)^\s*<(!doctype|html|head|body)\b`)
)

// readable reduces an HTML page, such as a proxy's, to its title.
func readable(text string) string {
	if title := htmlTitle.FindStringSubmatch(text); title != nil {
		return title[1]
	}
	if htmlStart.MatchString(text) {
		return ""
	}
	return text
}

// oneLine is text without line breaks and control characters, cut at maxMessageBytes.
func oneLine(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= maxMessageBytes {
		return text
	}
	end := maxMessageBytes - len("…")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// retryAfter reads both forms of RFC 9110, section 10.2.3.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(header); err == nil && date.After(now) {
		return date.Sub(now)
	}
	return 0
}
