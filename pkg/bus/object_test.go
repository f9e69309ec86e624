package bus_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
)

func TestAnObjectReadsBackAsItWasWritten(t *testing.T) {
	b := bustest.New(t, "actuator")
	o := bus.NewObjects(b, bus.EvidenceBucket)
	ctx := timeout(t)
	if _, err := o.Get(ctx, "d-1"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("get of nothing: got %v, want %v", err, bus.ErrNotFound)
	}
	for name, data := range map[string][]byte{
		"d-empty": {}, "d-small": []byte(`{"a":1}`), "d-large": bytes.Repeat([]byte("0123456789abcdef"), 40_000), // five messages
	} {
		if err := o.Put(ctx, name, data); err != nil {
			t.Fatal(err)
		}
		got, err := o.Get(ctx, name)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: got %d bytes (%v), want the %d that were written", name, len(got), err, len(data))
		}
	}
	if err := o.Put(ctx, "d-small", []byte("later")); err != nil {
		t.Fatal(err)
	}
	if got, err := o.Get(ctx, "d-small"); err != nil || string(got) != "later" {
		t.Errorf("written twice: got %q (%v), want the later one", got, err)
	}
}

func TestAnObjectsNameIsChecked(t *testing.T) {
	o := bus.NewObjects(bustest.New(t, "actuator"), bus.EvidenceBucket)
	for _, name := range []string{"", "a b", "a.>", "*"} {
		if err := o.Put(timeout(t), name, nil); !bus.IsPermanent(err) {
			t.Errorf("put %q: got %v, want a permanent error", name, err)
		}
	}
}
