package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

type field struct {
	Num, Type int
	Int       uint64
	Bytes     string
}

func fields(data []byte) (all []field, bad bool) {
	m := Read(data)
	for m.Next() {
		all = append(all, field{m.Num, m.Type, m.Int, string(m.Bytes)})
	}
	return all, m.Bad()
}

func TestMessagesAreReadFieldByField(t *testing.T) {
	tests := []struct {
		name string
		data []byte
		want []field
		bad  bool
	}{
		{name: "nothing"},
		{"a number", []byte{0x08, 0x96, 0x01}, []field{{Num: 1, Type: Varint, Int: 150}}, false},
		{"a text", []byte{0x12, 2, 'h', 'i'}, []field{{Num: 2, Type: Bytes, Bytes: "hi"}}, false},
		{"fixed ones, which are passed over", []byte{0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 1, 2, 3, 4, 0x18, 7}, []field{{Num: 1, Type: Fixed64}, {Num: 2, Type: Fixed32}, {Num: 3, Type: Varint, Int: 7}}, false},
		{"no value of the field before", []byte{0x12, 1, 'x', 0x08, 5}, []field{{Num: 2, Type: Bytes, Bytes: "x"}, {Num: 1, Type: Varint, Int: 5}}, false},
		{"-1", []byte{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, []field{{Num: 1, Type: Varint, Int: 1<<64 - 1}}, false},
		{"a number that is too long", []byte{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, nil, true},
		{"half a number", []byte{0x08, 0x96}, nil, true},
		{"half a text", []byte{0x12, 3, 'h', 'i'}, nil, true},
		{"a text longer than anything", []byte{0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, nil, true},
		{"a group", []byte{0x0b}, nil, true},
		{"field 0", []byte{0x00, 0x01}, nil, true},
		{"garbage after a field", []byte{0x08, 1, 0xff}, []field{{Num: 1, Type: Varint, Int: 1}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, bad := fields(tt.data)
			if diff := cmp.Diff(tt.want, got); diff != "" || bad != tt.bad {
				t.Errorf("bad %v, want %v; fields (-want +got):\n%s", bad, tt.bad, diff)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{0x08, 0x96, 0x01, 0x12, 2, 'h', 'i'})
	f.Fuzz(func(t *testing.T, data []byte) {
		if all, _ := fields(data); len(all) > len(data) {
			t.Errorf("%d fields in %d bytes", len(all), len(data))
		}
	})
}
