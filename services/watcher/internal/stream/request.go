package stream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The forms in which an API server answers.
const (
	Protobuf = "application/vnd.kubernetes.protobuf"
	JSON     = "application/json"
)

const (
	maxAnswer  = 30 * time.Second // until an answer begins
	maxRefusal = 16 << 10         // of what the server says instead of an answer
)

// request asks the API server, and has the observer know what became of it.
func (s *Stream) request(ctx context.Context, verb string, query url.Values) (*http.Response, error) {
	if s.cfg.Fields != "" {
		query.Set("fieldSelector", s.cfg.Fields)
	}
	if s.cfg.Labels != "" {
		query.Set("labelSelector", s.cfg.Labels)
	}
	u := *s.cfg.URL
	u.RawQuery = query.Encode()
	answered := s.cfg.Observer.Asked(verb)
	resp, err := Get(ctx, s.cfg.Client, &u, s.cfg.Accept)
	if err = because(ctx, err); errors.Is(err, errStale) {
		answered(context.Canceled) // by ourselves
	} else {
		answered(err)
	}
	return resp, err
}

// Get sends one request. An answer that is a refusal is an error that
// apierrors understands.
func Get(ctx context.Context, client *http.Client, u *url.URL, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	if err != nil {
		var asked *url.Error
		if errors.As(err, &asked) { // without the long address
			err = asked.Err
		}
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		return nil, refusal(resp)
	}
	return resp, nil
}

// refusal is the error that an answer is.
func refusal(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // half a reason is better than none
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	var err error
	if isJSON(resp) {
		err = decodeStatus(body, true)
	} else if data, ok := unwrap(body); ok {
		err = decodeStatus(data, false)
	}
	var said *apierrors.StatusError
	if errors.As(err, &said) && said.ErrStatus.Status == metav1.StatusFailure {
		if after > 0 && said.ErrStatus.Details == nil {
			said.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(min(after, 3600))}
		}
		return said
	}
	return apierrors.NewGenericServerResponse(resp.StatusCode, "get", schema.GroupResource{}, "",
		strings.TrimSpace(strings.ToValidUTF8(string(body), "�")), min(after, 3600), true)
}

func isJSON(resp *http.Response) bool {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && media == JSON
}

// GetObject asks for one object, and reads it into obj, which understands
// protobuf or JSON, whichever comes.
func GetObject(ctx context.Context, client *http.Client, u *url.URL, accept string, obj any) error {
	resp, err := Get(ctx, client, u, accept)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxFrame))
	if err != nil {
		return err
	}
	if isJSON(resp) {
		return json.Unmarshal(body, obj)
	}
	data, ok := unwrap(body)
	if !ok {
		return errors.New("not an object")
	}
	return Decode(&Object{Data: data}, obj)
}

// Decode decodes an object into a value of its type.
func Decode(o *Object, into any) error {
	if o.JSON {
		return json.Unmarshal(o.Data, into)
	}
	m, ok := into.(interface{ Unmarshal([]byte) error })
	if !ok {
		return errors.New("the type has no protobuf form")
	}
	return m.Unmarshal(o.Data)
}
