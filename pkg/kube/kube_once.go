package kube

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// writeOnce keeps client-go from repeating writes. On 429 or 5xx with a
// Retry-After header it would send the same request up to ten times more,
// with a precondition and a decision that may be stale by then. The typed
// clients do not offer rest.Request.MaxRetries, so the header is taken away
// before they see it; what it said stays in the error, where
// apierrors.SuggestsClientDelay finds it.
func writeOnce(next http.RoundTripper) http.RoundTripper {
	return roundTripper{next, func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err != nil || isRead(r.Method) {
			return resp, err
		}
		after := resp.Header.Get("Retry-After")
		resp.Header.Del("Retry-After")
		if seconds, err := strconv.Atoi(after); err == nil && !isStatus(resp.Header.Get("Content-Type")) {
			return keepDelay(r, resp, seconds), nil
		}
		return resp, nil
	}}
}

type roundTripper struct {
	next http.RoundTripper
	trip func(*http.Request) (*http.Response, error)
}

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return t.trip(r) }

// WrappedRoundTripper is how client-go finds the transport below.
func (t roundTripper) WrappedRoundTripper() http.RoundTripper { return t.next }

func isRead(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// isStatus reports whether the body is a Status, which holds the delay itself.
func isStatus(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || media == "application/vnd.kubernetes.protobuf")
}

// maxMessage is of the text that a server or proxy gives as its reason.
const maxMessage = 2 << 10

// keepDelay replaces a body of plain text, such as that of the API server's
// priority and fairness, by the Status that client-go would have made of it.
func keepDelay(r *http.Request, resp *http.Response, seconds int) *http.Response {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxMessage)) // half a reason is better than none
	_ = resp.Body.Close()
	status := apierrors.NewGenericServerResponse(resp.StatusCode, r.Method, schema.GroupResource{}, "",
		strings.TrimSpace(string(text)), seconds, true).Status()
	status.Kind, status.APIVersion = "Status", "v1"
	body, err := json.Marshal(status)
	if err != nil {
		body = text
	}
	resp.Header.Set("Content-Type", "application/json")
	resp.Header.Del("Content-Length")
	resp.Header.Del("Content-Encoding")
	resp.ContentLength = int64(len(body))
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp
}
