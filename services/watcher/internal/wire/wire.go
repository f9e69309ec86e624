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
	if len(m.rest) == 0 {
		return false
	}
	tag, ok := m.varint()
	if !ok || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return m.spoiled()
	}
	m.Num, m.Type, m.Int, m.Bytes = int(tag>>3), int(tag&7), 0, nil
	switch m.Type {
	case Varint:
		m.Int, ok = m.varint()
	case Bytes:
		var n uint64
		if n, ok = m.varint(); ok {
			m.Bytes, ok = m.take(n)
		}
	case Fixed64:
		_, ok = m.take(8)
	case Fixed32:
		_, ok = m.take(4)
	default: // groups, which Kubernetes has none of
		ok = false
	}
	return ok || m.spoiled()
}

func (m *Message) spoiled() bool {
	m.rest, m.bad = nil, true
	return false
}

func (m *Message) take(n uint64) ([]byte, bool) {
	if n > uint64(len(m.rest)) {
		return nil, false
	}
	data := m.rest[:n:n]
	m.rest = m.rest[n:]
	return data, true
}

func (m *Message) varint() (uint64, bool) {
	if len(m.rest) > 0 && m.rest[0] < 0x80 { // nearly always
		v := uint64(m.rest[0])
		m.rest = m.rest[1:]
		return v, true
	}
	var v uint64
	for i, b := range m.rest {
		if i == 9 && b > 1 {
			return 0, false
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			m.rest = m.rest[i+1:]
			return v, true
		}
	}
	return 0, false
}
