package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	failuresStream      = heal.StreamPrefix + "FAILURES"
	decisionsStream     = heal.StreamPrefix + "DECISIONS"
	resultsStream       = heal.StreamPrefix + "RESULTS"
	notificationsStream = heal.StreamPrefix + "NOTIFICATIONS"
	dlqStream           = heal.StreamPrefix + "DLQ"
	auditStream         = heal.StreamPrefix + "AUDIT"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	day = 24 * time.Hour
)

// A Bucket is a key-value bucket of the topology; it has one writer service.
type Bucket struct {
	Name  string // with the prefix
	Owner string
	TTL   time.Duration // a key not written for so long is gone; 0 keeps it
}

// The buckets.
var (
	EpisodesBucket  = Bucket{Name: heal.StreamPrefix + "EPISODES", Owner: "watcher", TTL: 30 * day}
	PositionsBucket = Bucket{Name: heal.StreamPrefix + "POSITIONS", Owner: "watcher", TTL: day} // how far watchers have read
	ObserversBucket = Bucket{Name: heal.StreamPrefix + "OBSERVERS", Owner: "watcher", TTL: day} // how well watchers see
	IncidentsBucket = Bucket{Name: heal.StreamPrefix + "INCIDENTS", Owner: "analyzer", TTL: 30 * day}
	ActionsBucket   = Bucket{Name: heal.StreamPrefix + "ACTIONS", Owner: "actuator", TTL: 30 * day}
	// What people were told of each incident; silences, which the command line writes.
	ConversationsBucket = Bucket{Name: heal.StreamPrefix + "CONVERSATIONS", Owner: "notifier", TTL: 8 * day}
	SilencesBucket      = Bucket{Name: heal.StreamPrefix + "SILENCES", Owner: "operator", TTL: 30 * day}
)

// A stream is one row of the topology.
type stream struct {
	Owner   string // the service that brings it up to date
	Trimmed bool   // makeRoom drops what was read when it is nearly full
	jetstream.StreamConfig
}

// topology is every stream and bucket there is.
func topology() []stream {
	rows := []stream{
		stage("watcher", failuresStream, 7*day, 512*mib, 16*kib, "failures"),
		stage("analyzer", decisionsStream, 30*day, 512*mib, 64*kib, "decisions", "approvals", "control"),
		stage("actuator", resultsStream, 30*day, 512*mib, 256*kib, "results"),
		stage("notifier", notificationsStream, 7*day, 256*mib, 256*kib, "notifications"),
		deadLetters("analyzer"),
		audit("actuator", audited()...),
	}
	for _, b := range []Bucket{EpisodesBucket, PositionsBucket, ObserversBucket, IncidentsBucket, ActionsBucket, ConversationsBucket, SilencesBucket} {
		rows = append(rows, bucket(b))
	}
	return append(rows, objects(EvidenceBucket))
}

// audited are the stages that the audit stream copies.
func audited() []string { return []string{failuresStream, decisionsStream, resultsStream} }

// stage is a stream between two services. Full, it refuses: DiscardOld would
// drop messages that were accepted and not read yet. makeRoom sees to it that
// it is not full of others. Retention by limits, as
// the other kinds forget the duplicate window of consumed messages at a
// restart of the server, and forbid a second reader.
func stage(owner, name string, age time.Duration, bytes int64, largest int32, roots ...string) stream {
	s := limited(owner, name, age, bytes, largest)
	for _, root := range roots {
		s.Subjects = append(s.Subjects, heal.SubjectRoot+".*."+root+".>")
	}
	s.Discard, s.Trimmed = jetstream.DiscardNew, true
	s.AllowAtomicPublish = true
	s.AllowDirect = true // for Scan
	return s
}

// deadLetters drops its oldest when full: better than to hold up the stages.
func deadLetters(owner string) stream {
	s := limited(owner, dlqStream, 30*day, 128*mib, mib)
	s.Subjects = []string{heal.SubjectRoot + ".*.dlq.>"}
	s.Discard = jetstream.DiscardOld
	return s
}

// audit copies the stages and keeps them longer, and no client can take a
// message out of it.
func audit(owner string, sources ...string) stream {
	s := limited(owner, auditStream, 90*day, gib, 256*kib+64*kib)
	s.Discard = jetstream.DiscardOld
	s.DenyDelete, s.DenyPurge = true, true
	for _, name := range sources {
		s.Sources = append(s.Sources, &jetstream.StreamSource{Name: name})
	}
	return s
}

// bucket is the stream beneath a key-value bucket
// (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md),
// but without rollups: with them, one message of any writer empties it.
func bucket(b Bucket) stream {
	s := limited(b.Owner, "KV_"+b.Name, b.TTL, 256*mib, 256*kib)
	s.Subjects = []string{"$KV." + b.Name + ".>"}
	s.Discard = jetstream.DiscardNew
	s.MaxMsgsPerSubject = 1
	s.Duplicates = 2 * time.Minute
	s.DenyDelete = true
	s.AllowDirect = true
	s.AllowAtomicPublish = true
	return s
}

// limited is what all of them have in common.
func limited(owner, name string, age time.Duration, bytes int64, largest int32) stream {
	return stream{Owner: owner, StreamConfig: jetstream.StreamConfig{
		Name:              name,
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		MaxAge:            age,
		MaxBytes:          bytes,
		MaxMsgSize:        largest,
		MaxMsgs:           -1,
		MaxMsgsPerSubject: -1,
		MaxConsumers:      -1,
		Duplicates:        DuplicateWindow,
		Replicas:          1,
	}}
}

// A property is something about a stream that must be as declared. What is
// not listed, such as the number of replicas, is the operator's choice.
type property struct {
	name string
	text func(jetstream.StreamConfig) string
	copy func(to *jetstream.StreamConfig, from jetstream.StreamConfig)
}

func properties() []property {
	type config = jetstream.StreamConfig
	return []property{
		{"retention", func(c config) string { return strings.ToLower(c.Retention.String()) }, func(to *config, c config) { to.Retention = c.Retention }},
		{"storage", func(c config) string { return strings.ToLower(c.Storage.String()) }, func(to *config, c config) { to.Storage = c.Storage }},
		{"subjects", func(c config) string { return strings.Join(slices.Sorted(slices.Values(c.Subjects)), ",") }, func(to *config, c config) { to.Subjects = c.Subjects }},
		{"sources", sourceNames, func(to *config, c config) { to.Sources = c.Sources }},
		{"discard", func(c config) string { return strings.ToLower(strings.TrimPrefix(c.Discard.String(), "Discard")) }, func(to *config, c config) { to.Discard = c.Discard }},
		{"max_age", func(c config) string { return c.MaxAge.String() }, func(to *config, c config) { to.MaxAge = c.MaxAge }},
		{"max_bytes", func(c config) string { return strconv.FormatInt(c.MaxBytes, 10) }, func(to *config, c config) { to.MaxBytes = max(to.MaxBytes, c.MaxBytes) }},
		{"max_msg_size", func(c config) string { return strconv.Itoa(int(c.MaxMsgSize)) }, func(to *config, c config) { to.MaxMsgSize = c.MaxMsgSize }},
		{"max_msgs", func(c config) string { return strconv.FormatInt(c.MaxMsgs, 10) }, func(to *config, c config) { to.MaxMsgs = c.MaxMsgs }},
		{"max_msgs_per_subject", func(c config) string { return strconv.FormatInt(c.MaxMsgsPerSubject, 10) }, func(to *config, c config) { to.MaxMsgsPerSubject = c.MaxMsgsPerSubject }},
		{"duplicate_window", func(c config) string { return c.Duplicates.String() }, func(to *config, c config) { to.Duplicates = c.Duplicates }},
		{"allow_atomic", func(c config) string { return strconv.FormatBool(c.AllowAtomicPublish) }, func(to *config, c config) { to.AllowAtomicPublish = c.AllowAtomicPublish }},
		{"allow_rollup_hdrs", func(c config) string { return strconv.FormatBool(c.AllowRollup) }, func(to *config, c config) { to.AllowRollup = c.AllowRollup }},
		{"allow_msg_ttl", func(c config) string { return strconv.FormatBool(c.AllowMsgTTL) }, func(to *config, c config) { to.AllowMsgTTL = c.AllowMsgTTL }},
		{"allow_direct", func(c config) string { return strconv.FormatBool(c.AllowDirect) }, func(to *config, c config) { to.AllowDirect = c.AllowDirect }},
		{"deny_delete", func(c config) string { return strconv.FormatBool(c.DenyDelete) }, func(to *config, c config) { to.DenyDelete = c.DenyDelete }},
		{"deny_purge", func(c config) string { return strconv.FormatBool(c.DenyPurge) }, func(to *config, c config) { to.DenyPurge = c.DenyPurge }},
		{"no_ack", func(c config) string { return strconv.FormatBool(c.NoAck) }, func(to *config, c config) { to.NoAck = c.NoAck }},
		{"sealed", func(c config) string { return strconv.FormatBool(c.Sealed) }, func(to *config, c config) { to.Sealed = c.Sealed }},
	}
}

func sourceNames(c jetstream.StreamConfig) string {
	var names []string
	for _, s := range c.Sources {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// differences names what about have is not as in want.
func differences(have, want jetstream.StreamConfig) []string {
	var diffs []string
	want.MaxBytes = max(want.MaxBytes, have.MaxBytes) // whose cluster is large gives a stream more room
	for _, p := range properties() {
		if got, wanted := p.text(have), p.text(want); got != wanted {
			diffs = append(diffs, fmt.Sprintf("%s is %q, want %q", p.name, got, wanted))
		}
	}
	return diffs
}

// A driftError says that a stream works, but not as declared.
type driftError struct{ error }

func (d driftError) Unwrap() error { return d.error }

// The oldest server that has atomic batches and the fixes that we rely upon.
const oldestMajor, oldestMinor = 2, 14

func checkVersion(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("nats-server %q: version not understood; need >= %d.%d.0", heal.Clean(version, 32), oldestMajor, oldestMinor)
	}
	if cmp.Or(cmp.Compare(major, oldestMajor), cmp.Compare(minor, oldestMinor)) < 0 {
		return fmt.Errorf("nats-server %s: need >= %d.%d.0 (CVE-2026-58251, atomic batches, data loss fixes)", version, oldestMajor, oldestMinor)
	}
	return nil
}

// Provision makes sure that every stream and bucket exists and looks as
// declared, trying again until ctx is done. A missing one is created; one that
// differs is updated by its owner and only reported by everybody else, in the
// log and by Ready. Who may not create a missing one waits for who may. It
// returns early only for an error that waiting cannot cure: ErrPermission to
// look, or a server that is too old. From then on the bus looks again by
// itself, after each reconnect and now and then.
func (b *Bus) Provision(ctx context.Context) error {
	for {
		err := b.provision(ctx)
		if err == nil || isDrift(err) {
			b.verify()
			return nil
		}
		if errors.Is(err, ErrPermission) || IsPermanent(err) {
			return err
		}
		if !b.wait(ctx, b.pace.retry) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// verify starts looking at the topology again and again until Close.
func (b *Bus) verify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop != nil || b.closed {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.keep.Go(func() {
		stuck := map[string]bool{}
		for b.wait(ctx, b.pace.verify) {
			if b.nc.IsConnected() {
				_ = b.provision(ctx) // recorded for Ready, and logged
				b.makeRooms(ctx, stuck)
			}
		}
	})
}

// provision looks at everything once, and records the outcome for Ready.
func (b *Bus) provision(ctx context.Context) error {
	err := b.provisionAll(ctx)
	if ctx.Err() != nil {
		return err
	}
	if !b.problem("topology", err) {
		return err
	}
	switch {
	case err == nil:
		b.log.Info("streams and buckets are as declared")
	case isDrift(err):
		b.log.Warn("streams or buckets differ from what is declared, using them as they are", "err", err)
	default:
		b.log.Warn("streams and buckets are not ready", "err", err)
	}
	return err
}

func (b *Bus) provisionAll(ctx context.Context) error {
	if !b.nc.IsConnected() {
		return b.away()
	}
	if err := checkVersion(b.nc.ConnectedServerVersion()); err != nil {
		return Permanent(err)
	}
	var drift []error
	for _, s := range topology() {
		err := b.ensure(ctx, s)
		if err != nil && !isDrift(err) {
			return err
		}
		if err != nil {
			drift = append(drift, err)
		}
	}
	return errors.Join(drift...)
}

// isDrift reports whether err is nothing but driftErrors.
func isDrift(err error) bool {
	var d driftError
	return errors.As(err, &d)
}

// ensure creates s if it is missing, and compares it otherwise.
func (b *Bus) ensure(ctx context.Context, s stream) error {
	var have jetstream.StreamConfig
	missing := false
	s.Replicas = max(s.Replicas, b.copies)
	err := b.request(ctx, 2*b.pace.answer, s.Name, mentions(s.Name), func(ctx context.Context) error {
		found, err := b.js.Stream(ctx, s.Name)
		if missing = errors.Is(err, jetstream.ErrStreamNotFound); missing {
			found, err = b.js.CreateStream(ctx, s.StreamConfig)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				found, err = b.js.Stream(ctx, s.Name) // another service was quicker
			}
		}
		if err == nil {
			have = found.CachedInfo().Config
		}
		return err
	})
	if missing && errors.Is(err, ErrPermission) {
		return awayError{fmt.Errorf("stream %s is not there, and %s may not make it; waiting for who may (selfheal provision streams): %s", s.Name, b.service, err.Error())}
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	diffs := differences(have, s.StreamConfig)
	if b.copies > 0 && have.Replicas != s.Replicas {
		diffs = append(diffs, fmt.Sprintf("num_replicas is \"%d\", want \"%d\"", have.Replicas, s.Replicas))
	}
	if len(diffs) == 0 {
		return nil
	}
	drift := driftError{fmt.Errorf("stream %s: %s", s.Name, strings.Join(diffs, "; "))}
	if b.service != s.Owner && b.copies == 0 {
		return drift
	}
	for _, p := range properties() {
		p.copy(&have, s.StreamConfig)
	}
	if b.copies > 0 {
		have.Replicas = s.Replicas
	}
	err = b.request(ctx, b.pace.answer, s.Name, mentions(s.Name), func(ctx context.Context) error {
		_, err := b.js.UpdateStream(ctx, have)
		return err
	})
	if err != nil {
		return driftError{fmt.Errorf("%w; update: %w", drift, err)}
	}
	b.log.Info("stream updated", "stream", s.Name, "changes", diffs)
	return nil
}
