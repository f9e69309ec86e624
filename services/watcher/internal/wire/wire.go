// Package wire reads protobuf messages field by field, in place: nothing is
// copied, and nothing is kept.
//
// It promises that no input makes it panic or loop: what is no message ends
// early, and says so.
package wire

// The wire types that there are.
const (
	Varint  = 0
	Fixed64 = 1
	Bytes   = 2
	Fixed32 = 5
)

// A Message is read by calling Next until it returns false:
//
//	for m := wire.Read(data); m.Next(); { … }
type Message struct {
	rest []byte
	bad  bool

	Num   int    // of the field
	Type  int    // one of the wire types
	Int   uint64 // of a Varint
	Bytes []byte // of Bytes; part of the input
}

// Read begins to read a message.
func Read(data []byte) Message { return Message{rest: data} }

// Bad reports whether reading ended because the input is no message.
func (m *Message) Bad() bool { return m.bad }

// Next goes on to the next field, and reports whether there is one.
func (m *Message) Next() bool {
	rest := m.rest
	if len(rest) == 0 {
		return false
	}
	// Nearly all tags and lengths are one byte long, or two.
	tag, n := uint64(rest[0]), 1
	if tag >= 0x80 {
		if tag, n = varint(rest); n == 0 {
			return m.spoiled()
		}
	}
	rest = rest[n:]
	m.Num, m.Type, m.Int, m.Bytes = int(tag>>3), int(tag&7), 0, nil
	if tag>>3 == 0 || tag>>3 > 1<<29-1 || len(rest) == 0 {
		return m.spoiled()
	}
	switch m.Type {
	case Varint, Bytes:
		value, n := uint64(rest[0]), 1
		if value >= 0x80 {
			if value, n = varint(rest); n == 0 {
				return m.spoiled()
			}
		}
		rest = rest[n:]
		if m.Type == Varint {
			m.Int = value
			break
		}
		if value > uint64(len(rest)) {
			return m.spoiled()
		}
		m.Bytes, rest = rest[:value:value], rest[value:]
	case Fixed64, Fixed32:
		width := 8
		if m.Type == Fixed32 {
			width = 4
		}
		if len(rest) < width {
			return m.spoiled()
		}
		rest = rest[width:]
	default: // groups, which Kubernetes has none of
		return m.spoiled()
	}
	m.rest = rest
	return true
}

func (m *Message) spoiled() bool {
	m.rest, m.bad = nil, true
	return false
}

// varint reads a number, and how long it is; 0 if it is none.
func varint(data []byte) (v uint64, n int) {
	if len(data) > 1 && data[1] < 0x80 {
		return uint64(data[0]&0x7f) | uint64(data[1])<<7, 2
	}
	for i, b := range data {
		if i == 9 && b > 1 {
			return 0, 0
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
