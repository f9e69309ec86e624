package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/selfheal/selfheal/pkg/heal"
)

// An API is what a service answers at once, beside the streams: a NATS micro
// service (`nats micro ls`). Any of several processes of the same service
// answers. Nothing that must not be lost goes this way.
type API struct {
	b      *Bus
	svc    micro.Service
	ctx    context.Context // of the answers; ends with Close
	cancel context.CancelFunc
}

// An Endpoint is one thing that can be asked for.
type Endpoint struct {
	Name    string // one token of its subject
	Summary string // one sentence, for people

	// Answer returns what is written as JSON. An error that is ErrNotFound, or
	// Permanent (a bad question), is told as such.
	Answer func(ctx context.Context, question []byte) (any, error)
}

// answerWithin bounds one answer.
const answerWithin = 10 * time.Second

// Serve makes this process known as the micro service selfheal-<service>. The
// caller must call Close.
func (b *Bus) Serve(version, summary string) (*API, error) {
	svc, err := micro.AddService(b.nc, micro.Config{
		Name: "selfheal-" + b.service, Version: semantic(version), Description: summary,
		Metadata: map[string]string{"cluster": b.cluster, "version": version},
	})
	if err != nil {
		return nil, fmt.Errorf("bus: serve %s: %w", b.service, err)
	}
	a := &API{b: b, svc: svc}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

// Close stops answering.
func (a *API) Close() {
	a.cancel()
	_ = a.svc.Stop() // or the end of the connection does
}

// Add adds an endpoint.
func (a *API) Add(e Endpoint) error {
	err := a.svc.AddEndpoint(e.Name, micro.HandlerFunc(func(r micro.Request) { a.answer(e, r) }),
		micro.WithEndpointSubject(a.b.apiSubject(a.b.service, e.Name)),
		micro.WithEndpointMetadata(map[string]string{"summary": e.Summary}))
	if err != nil {
		return fmt.Errorf("bus: serve %s of %s: %w", e.Name, a.b.service, err)
	}
	return nil
}

// The codes of errors, as in HTTP.
const (
	codeBadQuestion = "400"
	codeNotFound    = "404"
	codeFailed      = "500"
)

func (a *API) answer(e Endpoint, r micro.Request) {
	ctx, cancel := context.WithTimeout(a.ctx, answerWithin)
	defer cancel()
	v, err := e.Answer(ctx, r.Data())
	if err == nil {
		err = r.RespondJSON(v)
	}
	if err == nil {
		return
	}
	code := codeFailed
	switch {
	case errors.Is(err, ErrNotFound):
		code = codeNotFound
	case IsPermanent(err):
		code = codeBadQuestion
	}
	// A line of a header: nothing in it may end one.
	if err := r.Error(code, heal.Clean(err.Error(), 512), nil); err != nil {
		a.b.log.Warn("a question was not answered", "endpoint", e.Name, "err", err)
	}
}

func (b *Bus) apiSubject(service, endpoint string) string {
	return strings.Join([]string{heal.SubjectRoot, heal.Token(b.cluster), "api", service, endpoint}, ".")
}

// Ask asks a service, and waits for the answer until ctx is done. An error is
// ErrNotFound when the service says so.
func Ask[A any](ctx context.Context, b *Bus, service, endpoint string, question any) (A, error) {
	var answer A
	subject := b.apiSubject(service, endpoint)
	what := fmt.Sprintf("ask %s to %s", service, endpoint)
	if !b.nc.IsConnected() {
		return answer, fmt.Errorf("%s: %w", what, b.away())
	}
	body, err := json.Marshal(question)
	if err != nil {
		return answer, fmt.Errorf("%s: %w", what, err)
	}
	waiting, done := b.waits.add(ctx, exactly(subject), true)
	defer done()
	m, err := b.nc.RequestWithContext(waiting, subject, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return answer, fmt.Errorf("%s: no %s of cluster %s is there to answer", what, service, b.cluster)
	case err != nil:
		return answer, fmt.Errorf("%s: %w", what, cmp.Or(context.Cause(waiting), err))
	}
	if said := m.Header.Get(micro.ErrorHeader); said != "" {
		if m.Header.Get(micro.ErrorCodeHeader) == codeNotFound {
			return answer, toldError{said, ErrNotFound}
		}
		return answer, fmt.Errorf("%s: %s", what, heal.Clean(said, 512))
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return answer, fmt.Errorf("%s: the answer cannot be understood: %w", what, err)
	}
	return answer, nil
}

// A toldError is an error in the words of who answered.
type toldError struct {
	said string
	is   error
}

func (t toldError) Error() string { return heal.Clean(t.said, 512) }
func (t toldError) Unwrap() error { return t.is }

var (
	semverForm = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)
	notInAPre  = regexp.MustCompile(`[^0-9A-Za-z-]+`)
)

// semantic is a version in the form that micro services need, which that of a
// build from between two releases does not have.
func semantic(version string) string {
	v := strings.TrimPrefix(version, "v")
	if semverForm.MatchString(v) && !strings.Contains(v, "..") && !strings.HasSuffix(v, ".") && !leadingZero.MatchString(v) {
		return v
	}
	return "0.0.0-dev-" + strings.Trim(notInAPre.ReplaceAllString(v, "-"), "-")
}

var leadingZero = regexp.MustCompile(`[-.]0\d+(\.|$)`) // of a number in the part behind the hyphen
