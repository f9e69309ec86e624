package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// roomBelow is how full a stage may be before its oldest messages are dropped
// that everybody has read; by then a quarter of them goes at a time.
const roomBelow = 0.8

// heardOf is how long ago the audit stream has heard of a stage at most; the
// server lets it hear every few seconds, also when there is nothing new.
const heardOf = 30 * time.Second

// makeRoom keeps a stage from being full of what nobody waits for, as it would
// refuse then. Never dropped is what a durable consumer has not acknowledged,
// what the audit stream has not copied, and what a double is told by.
func (b *Bus) makeRoom(ctx context.Context, s stream) error {
	ask := func(call func(context.Context) error) error {
		return b.request(ctx, b.pace.answer, s.Name, mentions(s.Name), call)
	}
	var found jetstream.Stream
	err := ask(func(ctx context.Context) (err error) {
		found, err = b.js.Stream(ctx, s.Name)
		return err
	})
	if err != nil {
		return err
	}
	info := found.CachedInfo()
	state, full := info.State, float64(info.State.Bytes)/float64(info.Config.MaxBytes)
	if full < roomBelow || state.Msgs < 4 {
		return nil
	}
	read := uint64(math.MaxUint64) // everything before it may go
	if slices.Contains(audited(), s.Name) {
		if read, err = b.copied(ctx, s.Name, state.LastSeq); err != nil {
			return err
		}
	}
	err = ask(func(ctx context.Context) error {
		all, durables := found.ListConsumers(ctx), 0
		for c := range all.Info() {
			if c.Config.Durable != "" {
				durables++
				read = min(read, c.AckFloor.Stream+1)
			}
		}
		if durables == 0 {
			read = 0 // whoever is to read it has not come yet
		}
		return all.Err()
	})
	if err != nil {
		return err
	}
	until := min(read, state.FirstSeq+state.Msgs/4)
	if until <= state.FirstSeq {
		return fmt.Errorf("it is %.0f %% full, and of its oldest messages some were not read yet", 100*full)
	}
	return ask(func(ctx context.Context) error {
		last, err := found.GetMsg(ctx, until-1)
		if err != nil {
			return err
		}
		if age := time.Since(last.Time); age < b.pace.window {
			return fmt.Errorf("it is %.0f %% full, and what was read is younger than %s, within which a double is told by it", 100*full, b.pace.window)
		}
		if err := found.Purge(ctx, jetstream.WithPurgeSequence(until)); err != nil {
			return err
		}
		b.log.Info("stream made room by dropping what was read", "stream", s.Name, "messages", until-state.FirstSeq, "before", last.Time)
		return nil
	})
}

// copied is the first message of a stage that the audit stream may not have
// copied yet.
func (b *Bus) copied(ctx context.Context, stage string, last uint64) (uint64, error) {
	var first uint64
	err := b.request(ctx, b.pace.answer, auditStream, mentions(auditStream), func(ctx context.Context) error {
		audit, err := b.js.Stream(ctx, auditStream)
		if err != nil {
			return err
		}
		for _, source := range audit.CachedInfo().Sources {
			if source.Name == stage && source.Active >= 0 && source.Active < heardOf && source.Lag <= last { // negative: never yet
				first = last - source.Lag + 1
				return nil
			}
		}
		return errors.New("the audit stream does not copy it now")
	})
	return first, err
}

// makeRooms looks after the stages that are ours to look after. What stands in
// the way of one is logged once, and remembered in stuck.
func (b *Bus) makeRooms(ctx context.Context, stuck map[string]bool) {
	for _, s := range topology() {
		if !s.Trimmed || b.service != s.Owner && b.copies == 0 {
			continue
		}
		err := b.makeRoom(ctx, s)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !stuck[s.Name] && !errors.Is(err, ErrPermission) { // where there is a keeper, it is for him
			b.log.Warn("stream cannot make room, and refuses when it is full", "stream", s.Name, "err", err)
		}
		stuck[s.Name] = err != nil
	}
}
