package bus

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/heal"
)

// EvidenceBucket is the object store with what things looked like before they
// were changed: one object for each decision that changed something, by its id.
var EvidenceBucket = Bucket{Name: heal.StreamPrefix + "EVIDENCE", Owner: "actuator", TTL: 7 * day}

// objectChunk is how much of an object one message holds, as other clients do it.
const objectChunk = 128 * kib

// objects is the stream beneath an object store
// (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md),
// but without rollups, as with buckets: an object here is written once. Full,
// it drops its oldest: better than to hold up a recovery.
func objects(b Bucket) stream {
	s := limited(b.Owner, "OBJ_"+b.Name, b.TTL, 256*mib, objectChunk+16*kib)
	s.Subjects = []string{"$O." + b.Name + ".C.>", "$O." + b.Name + ".M.>"}
	s.Discard = jetstream.DiscardOld
	s.DenyDelete = true
	s.AllowDirect = true
	return s
}

// Objects keeps what is too large for a message in an object store, which any
// client of JetStream can read (`nats object get`). It is safe for concurrent use.
type Objects struct {
	b    *Bus
	name string
}

// NewObjects opens the object store lazily: the server may be away.
func NewObjects(b *Bus, bucket Bucket) *Objects { return &Objects{b, bucket.Name} }

// Put writes the object of that name and returns once the server has all of it.
// Of an object that is written twice the later one counts.
func (o *Objects) Put(ctx context.Context, name string, data []byte) error {
	if len(name) > 256 || !keyForm.MatchString(name) {
		return Permanent(fmt.Errorf("object store %s: put %q: not a name; want 1 to 256 letters, digits and _=-. in it", o.name, heal.Clean(name, 64)))
	}
	stream, id := "OBJ_"+o.name, rand.Text()
	sum := sha256.Sum256(data)
	info := jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: objectChunk}},
		Bucket:     o.name, NUID: id, Size: uint64(len(data)), ModTime: time.Now().UTC(),
		Digest: "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:]),
	}
	for rest := data; len(rest) > 0; {
		n := min(len(rest), objectChunk)
		m := nats.NewMsg("$O." + o.name + ".C." + id)
		m.Data, rest = rest[:n], rest[n:]
		if _, err := o.b.store(ctx, stream, m); err != nil {
			return fmt.Errorf("object store %s: put %q: %w", o.name, name, err)
		}
		info.Chunks++
	}
	m := nats.NewMsg("$O." + o.name + ".M." + base64.URLEncoding.EncodeToString([]byte(name)))
	var err error
	if m.Data, err = json.Marshal(info); err != nil {
		return Permanent(err)
	}
	if _, err := o.b.store(ctx, stream, m); err != nil {
		return fmt.Errorf("object store %s: put %q: %w", o.name, name, err)
	}
	return nil
}

// Get reads the object of that name, or returns ErrNotFound.
func (o *Objects) Get(ctx context.Context, name string) ([]byte, error) {
	var data []byte
	err := o.b.request(ctx, 0, "OBJ_"+o.name, mentions("OBJ_"+o.name), func(ctx context.Context) error {
		store, err := o.b.js.ObjectStore(ctx, o.name)
		if err != nil {
			return err
		}
		data, err = store.GetBytes(ctx, name)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound), errors.Is(err, jetstream.ErrNoObjectsFound):
		return nil, fmt.Errorf("object store %s: get %q: %w", o.name, heal.Clean(name, 64), ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("object store %s: get %q: %w", o.name, heal.Clean(name, 64), err)
	}
	return data, nil
}
