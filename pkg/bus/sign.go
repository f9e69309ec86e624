package bus

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/selfheal/selfheal/pkg/sign"
)

// Headers of messages of Signed topics.
const (
	headerKey = "Selfheal-Key"
	headerSig = "Selfheal-Sig"
)

// signing reads the keys of o.
func signing(o Options) (signer *sign.Signer, trust *sign.Verifier, err error) {
	if o.SigningKey != "" {
		if signer, err = sign.NewSigner(o.SigningKey); err != nil {
			return nil, nil, fmt.Errorf("signing_key_file: %w", err)
		}
	}
	if o.TrustedKeys != "" {
		if trust, err = sign.NewVerifier(o.TrustedKeys); err != nil {
			return nil, nil, fmt.Errorf("trusted_keys_dir: %w", err)
		}
	}
	return signer, trust, nil
}

// mark signs m, if there is a key for that.
func (b *Bus) mark(m *nats.Msg) error {
	if b.signer == nil {
		return nil
	}
	mark, err := b.signer.Sign(m.Data, time.Now())
	b.keysRead(err)
	if err != nil {
		return err
	}
	m.Header.Set(headerKey, mark.Key)
	m.Header.Set(headerSig, mark.Sig)
	return nil
}

// vouched reports why a message is not taken as what it says it is. It reads
// none of the body: that is what a stranger would write.
func (t Topic[T]) vouched(b *Bus, d delivery) error {
	if !t.Signed || b.trust == nil {
		return nil
	}
	err := b.trust.Verify(d.Data, d.Header.Values(headerKey), d.Header.Values(headerSig), time.Now())
	if err == nil || errors.Is(err, sign.ErrUntrusted) {
		b.keysRead(nil)
		return err
	}
	b.keysRead(err)
	return Later(err, sign.Fresh) // the fault is ours, not the message's
}

// keysRead makes the bus not ready while its keys cannot be read.
func (b *Bus) keysRead(err error) {
	if b.problem("keys", err) && err != nil {
		b.log.Error("keys cannot be read; decisions wait", "err", err)
	}
}

// SigningKey is the id of the key that signs decisions; empty if they go unsigned.
func (b *Bus) SigningKey() string {
	if b.signer == nil {
		return ""
	}
	return b.signer.ID(time.Now())
}

// TrustedKeys are the ids of the keys of which decisions are taken, and whether
// unsigned ones are taken as well.
func (b *Bus) TrustedKeys() (ids []string, unsigned bool) {
	if b.trust == nil {
		return nil, true
	}
	return b.trust.IDs(time.Now()), false
}
