package kubetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// AuditEvent is one request that the API server has answered. Reads by Kubernetes' own parts are not recorded, nor is
// anything about Leases and Kubernetes events.
type AuditEvent struct {
	Time        time.Time // when the request came
	User        string
	UserAgent   string
	Verb        string // get, list, watch, create, update, patch, delete, deletecollection
	Group       string // API group; empty for core
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Code        int
	DryRun      bool

	// UID and ResourceVersion are the preconditions of a delete or an eviction, or the metadata that an update or
	// patch carries.
	UID                string
	ResourceVersion    string
	GracePeriodSeconds *int64 // of a delete or an eviction

	RequestObject json.RawMessage // empty for reads, for Kubernetes' own parts, and for ConfigMaps and Secrets
}

// Mutating reports whether the request was a write, be it refused or a dry run.
func (e AuditEvent) Mutating() bool {
	return slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, e.Verb)
}

// String is one line: who did what to which object, and the answer.
func (e AuditEvent) String() string {
	resource := e.Resource
	if e.Subresource != "" {
		resource += "/" + e.Subresource
	}
	return fmt.Sprintf("%s %s %s %s/%s %d", e.UserAgent, e.Verb, resource, e.Namespace, e.Name, e.Code)
}

// Audit returns all requests recorded so far, in the order of their answers. A request is recorded before the end of
// its answer is sent.
func (c *Cluster) Audit(t testing.TB) []AuditEvent {
	t.Helper()
	b, err := os.ReadFile(c.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	events, err := parseAudit(b)
	if err != nil {
		t.Fatalf("read %s: %v", c.AuditLog, err)
	}
	return events
}

// Mutations picks the writes of the clients whose user agent begins so.
func Mutations(events []AuditEvent, userAgentPrefix string) []AuditEvent {
	var writes []AuditEvent
	for _, e := range events {
		if e.Mutating() && strings.HasPrefix(e.UserAgent, userAgentPrefix) {
			writes = append(writes, e)
		}
	}
	return writes
}

// MutationsBy is Mutations of all that was recorded so far. It holds no more of the log at once than a line, and decodes
// none of others: of a cluster that many tests share that is most of it.
func (c *Cluster) MutationsBy(t testing.TB, userAgentPrefix string) []AuditEvent {
	t.Helper()
	f, err := os.Open(c.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var events []AuditEvent
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return Mutations(events, userAgentPrefix) // a line that is being written has no end yet
		}
		if err != nil {
			t.Fatalf("read %s: %v", c.AuditLog, err)
		}
		if !bytes.Contains(line, []byte(userAgentPrefix)) {
			continue
		}
		some, err := parseAudit(line)
		if err != nil {
			t.Fatalf("read %s: %v", c.AuditLog, err)
		}
		events = append(events, some...)
	}
}

// auditRecord is the part of audit.k8s.io/v1 Event that is used.
type auditRecord struct {
	Stage      string `json:"stage"`
	RequestURI string `json:"requestURI"`
	Verb       string `json:"verb"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	UserAgent string `json:"userAgent"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		APIGroup    string `json:"apiGroup"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	RequestObject            json.RawMessage `json:"requestObject"`
	RequestReceivedTimestamp time.Time       `json:"requestReceivedTimestamp"`
}

func parseAudit(b []byte) ([]AuditEvent, error) {
	// A line that is being written has no end yet.
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	var events []AuditEvent
	for line := range bytes.Lines(b) {
		var r auditRecord
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		if r.Stage == "ResponseComplete" {
			events = append(events, r.event())
		}
	}
	return events, nil
}

func (r auditRecord) event() AuditEvent {
	e := AuditEvent{
		Time: r.RequestReceivedTimestamp, User: r.User.Username, UserAgent: r.UserAgent, Verb: r.Verb,
		Group: r.ObjectRef.APIGroup, Resource: r.ObjectRef.Resource, Subresource: r.ObjectRef.Subresource,
		Namespace: r.ObjectRef.Namespace, Name: r.ObjectRef.Name, Code: r.ResponseStatus.Code,
		RequestObject: r.RequestObject,
	}
	if u, err := url.Parse(r.RequestURI); err == nil {
		e.DryRun = u.Query().Has("dryRun")
	}
	var body requestBody
	if json.Unmarshal(r.RequestObject, &body) != nil {
		return e // no body, or a JSON patch, which is a list
	}
	options := body.deleteOptions
	if body.DeleteOptions != nil { // an eviction
		options = *body.DeleteOptions
	}
	e.DryRun = e.DryRun || len(options.DryRun) > 0
	e.UID, e.ResourceVersion = options.Preconditions.UID, options.Preconditions.ResourceVersion
	e.GracePeriodSeconds = options.GracePeriodSeconds
	if r.Verb == "update" || r.Verb == "patch" {
		e.UID, e.ResourceVersion = body.Metadata.UID, body.Metadata.ResourceVersion
	}
	return e
}

// requestBody is an object, an Eviction, or DeleteOptions.
type requestBody struct {
	deleteOptions
	DeleteOptions *deleteOptions `json:"deleteOptions"`
	Metadata      struct {
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
}

type deleteOptions struct {
	DryRun             []string `json:"dryRun"`
	GracePeriodSeconds *int64   `json:"gracePeriodSeconds"`
	Preconditions      struct {
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"preconditions"`
}
