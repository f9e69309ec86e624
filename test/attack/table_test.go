package attack

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/selfheal/selfheal/pkg/heal"
)

// unsigned are decisions that the trusted key did not sign, from the one place
// from which decisions come.
func unsigned() []attack {
	good := func(f *field) blow { return f.signed(f.decision(f.sick)) }
	with := func(change func(f *field, b blow) blow) func(*field) blow {
		return func(f *field) blow { return change(f, good(f)) }
	}
	sig := func(b blow) string { return b.header["Selfheal-Sig"][0] }
	return []attack{
		{"no signature", untrusted, func(f *field) blow { return f.plain(f.decision(f.sick)) }},
		{"a key without a signature", untrusted, with(func(_ *field, b blow) blow { return b.with("Selfheal-Sig") })},
		{"a signature without a key", untrusted, with(func(_ *field, b blow) blow { return b.with("Selfheal-Key") })},
		{"an empty signature", untrusted, with(func(_ *field, b blow) blow { return b.with("Selfheal-Sig", "") })},
		{"a stranger's key", untrusted, func(f *field) blow { return f.plain(f.decision(f.sick)).signedBy(f.strange, f.strange) }},
		{"a stranger's key under the trusted name", untrusted, func(f *field) blow { return f.plain(f.decision(f.sick)).signedBy(f.strange, f.key) }},
		{"the signature of another decision", untrusted, with(func(f *field, b blow) blow { return b.with("Selfheal-Sig", sig(f.signed(f.decision(f.well)))) })},
		{"a flipped bit in the signature", untrusted, with(func(_ *field, b blow) blow {
			raw, err := base64.StdEncoding.DecodeString(sig(b))
			if err != nil {
				panic(err) // it was encoded here
			}
			raw[7] ^= 1
			return b.with("Selfheal-Sig", base64.StdEncoding.EncodeToString(raw))
		})},
		{"half a signature", untrusted, with(func(_ *field, b blow) blow { return b.with("Selfheal-Sig", sig(b)[:44]) })},
		{"a good signature and a bad one", untrusted, with(func(_ *field, b blow) blow { return b.with("Selfheal-Sig", sig(b), strings.Repeat("A", 86)+"==") })},
		{"two names of keys", untrusted, with(func(f *field, b blow) blow { return b.with("Selfheal-Key", keyID(f.strange), keyID(f.key)) })},
		{"headers in small letters", untrusted, with(func(f *field, b blow) blow {
			return b.with("Selfheal-Sig").with("Selfheal-Key").with("selfheal-sig", sig(b)).with("selfheal-key", keyID(f.key))
		})},
		{"a signature in hexadecimal", untrusted, with(func(_ *field, b blow) blow { return b.with("Selfheal-Sig", hexOf(b)) })},
		{"a signature of zeroes", untrusted, with(func(_ *field, b blow) blow { return b.with("Selfheal-Sig", strings.Repeat("A", 86)+"==") })},
		{"a signature over a hash of the body", untrusted, with(func(f *field, b blow) blow {
			return b.with("Selfheal-Sig", base64.StdEncoding.EncodeToString(ed25519.Sign(f.key, hashed(b))))
		})},
		{"a path for a key", untrusted, with(func(_ *field, b blow) blow { return b.with("Selfheal-Key", "../decisions") })},
		{"the key's name in capitals", untrusted, with(func(f *field, b blow) blow { return b.with("Selfheal-Key", strings.ToUpper(keyID(f.key))) })},
		{"nonsense without a signature", untrusted, func(f *field) blow {
			return blow{subject: f.plain(f.decision(f.sick)).subject, body: []byte("{")}
		}},
	}
}

// altered are decisions that were changed after they were signed.
func altered() []attack {
	var all []attack
	for _, e := range []struct {
		name, before string
		after        func(f *field) string
	}{
		{"its target's name", `"name":"`, func(*field) string { return `"name":"x` }},
		{"its strategy", `"strategy":"restart"`, func(*field) string { return `"strategy":"recreate"` }},
		{"its mode", `"mode":"auto"`, func(*field) string { return `"mode":"approve"` }},
		{"its kind of target", `"kind":"Pod"`, func(*field) string { return `"kind":"Node"` }},
		{"its guards", `"guards":[]`, func(*field) string { return `"guards":null` }},
		{"its parameters", `"parameters":{}`, func(*field) string { return `"parameters":{"force":"true"}` }},
		{"its cluster", `/clusters/` + cluster, func(*field) string { return `/clusters/another` }},
		{"a key given twice", `{`, func(*field) string { return `{"id":"d-0",` }},
		{"a byte-order mark", `{`, func(*field) string { return "\ufeff{" }},
		{"a space", `{`, func(*field) string { return `{ ` }},
	} {
		all = append(all, attack{"altered after signing: " + e.name, untrusted, func(f *field) blow {
			return f.signed(f.decision(f.sick)).edit(e.before, e.after(f))
		}})
	}
	return append(all,
		attack{"altered after signing: its target for another pod", untrusted, func(f *field) blow {
			return f.signed(f.decision(f.well)).edit(string(f.well.UID), string(f.sick.UID))
		}},
		attack{"altered after signing: what follows its end", untrusted, func(f *field) blow {
			b := f.signed(f.decision(f.sick))
			b.body = append(b.body, '\n')
			return b
		}},
		attack{"altered after signing: its time", untrusted, func(f *field) blow {
			b := f.signed(f.decision(f.sick, func(d *heal.Decision) { d.Expires = time.Unix(1e9, 0).UTC() }))
			return b.edit("2001-09-09T01:46:40Z", "2099-09-09T01:46:40Z")
		}})
}

// stolenKey are decisions with a good signature: of an analyzer that was taken
// over. What it may not have done, no signature allows.
func stolenKey() []attack {
	about := func(change func(f *field, d *heal.Decision)) func(*field) blow {
		return func(f *field) blow {
			return f.signed(f.decision(f.sick, func(d *heal.Decision) { change(f, d) }))
		}
	}
	target := func(change func(f *field, t *heal.Target)) func(*field) blow {
		return about(func(f *field, d *heal.Decision) { change(f, &d.Target); change(f, &d.Failure.Target) })
	}
	return []attack{
		{"signed: expired", refused, about(func(_ *field, d *heal.Decision) { d.Expires = time.Now().Add(-time.Second) })},
		{"signed: made an hour ago, to last for a year", refused, func(f *field) blow {
			return f.signed(f.decision(f.sick, func(d *heal.Decision) { d.Expires = time.Now().AddDate(1, 0, 0) }), func(e *heal.Event[heal.Decision]) { e.Time = time.Now().Add(-time.Hour).UTC() })
		}},
		{"signed: from the future", refused, func(f *field) blow {
			return f.signed(f.decision(f.sick), func(e *heal.Event[heal.Decision]) { e.Time = time.Now().Add(time.Hour).UTC() })
		}},
		{"signed: of another cluster", malformed, func(f *field) blow {
			return f.signed(f.decision(f.sick), func(e *heal.Event[heal.Decision]) { e.Source = heal.Source("another", "analyzer") })
		}},
		{"signed: stored under another subject", malformed, func(f *field) blow {
			b, other := f.signed(f.decision(f.sick)), f.plain(f.decision(f.well))
			b.subject = other.subject
			return b
		}},
		{"signed: with the message id of another", malformed, func(f *field) blow {
			return f.signed(f.decision(f.sick)).with(nats.MsgIdHdr, f.decision(f.well).ID)
		}},
		{"signed: under another envelope's id", malformed, func(f *field) blow {
			return f.signed(f.decision(f.sick), func(e *heal.Event[heal.Decision]) { e.ID = "d-0" })
		}},
		{"signed: of another type", malformed, func(f *field) blow {
			return f.signed(f.decision(f.sick), func(e *heal.Event[heal.Decision]) { e.Type = heal.TypeMessageDead })
		}},
		{"signed: no JSON", malformed, func(f *field) blow {
			b := f.plain(f.decision(f.sick))
			b.body = b.body[:len(b.body)/2]
			return b.signedBy(f.key, f.key)
		}},
		{"signed: a pod that is well", refused, func(f *field) blow { return f.signed(f.decision(f.well)) }},
		{"signed: the right name, the uid of another", refused, target(func(f *field, t *heal.Target) { t.UID = string(f.well.UID) })},
		{"signed: no uid", malformed, target(func(_ *field, t *heal.Target) { t.UID = "" })},
		{"signed: a pod that is not there", refused, target(func(_ *field, t *heal.Target) { t.Name = "nobody" })},
		{"signed: no name, which could mean all", malformed, target(func(_ *field, t *heal.Target) { t.Name = "" })},
		{"signed: a wildcard for a name", malformed, target(func(_ *field, t *heal.Target) { t.Name = "*" })},
		{"signed: a path for a name", malformed, target(func(_ *field, t *heal.Target) { t.Name = "../../nodes/a" })},
		{"signed: a pod of kube-system", refused, target(func(_ *field, t *heal.Target) { t.Namespace = "kube-system" })},
		{"signed: a pod of our own", refused, target(func(_ *field, t *heal.Target) { t.Namespace = heal.Product })},
		{"signed: another kind under a pod's name", refused, target(func(_ *field, t *heal.Target) { t.Kind = "Secret" })},
		{"signed: a strategy that there is not", malformed, about(func(_ *field, d *heal.Decision) { d.Strategy = "delete_all" })},
		{"signed: a guard that said no", refused, about(func(_ *field, d *heal.Decision) {
			d.Guards = []heal.Verdict{{Name: "storm", Allowed: false, Reason: "Storm", Detail: "too many"}}
		})},
		{"signed: only to observe", refused, about(func(_ *field, d *heal.Decision) { d.Mode = heal.ModeObserve })},
		{"signed: a mode that there is not", malformed, about(func(_ *field, d *heal.Decision) { d.Mode = "force" })},
		{"signed: larger than the stream takes", nothing, about(func(_ *field, d *heal.Decision) { d.Parameters = map[string]string{"x": strings.Repeat("x", 1<<19)} })},
	}
}

// outside are steps outside its rights, of each client of NATS. The decision is
// signed: even who could sign could not bring it in.
func outside() []attack {
	forged := func(f *field) blow { return f.signed(f.decision(f.sick)) }
	var all []attack
	for _, by := range []string{"watcher", "actuator", "notifier", "operator"} {
		all = append(all,
			attack{by + " stores a signed decision", denied, func(f *field) blow { b := forged(f); b.by = by; return b }},
			attack{by + " stores an unsigned decision", denied, func(f *field) blow { b := f.plain(f.decision(f.sick)); b.by = by; return b }},
			attack{by + " has an answer stored as a decision", nothing, func(f *field) blow {
				return blow{by: by, subject: "$JS.API.STREAM.INFO.SELFHEAL_FAILURES", reply: forged(f).subject}
			}},
			attack{by + " empties the stream of decisions", denied, func(*field) blow { return blow{by: by, subject: "$JS.API.STREAM.PURGE.SELFHEAL_DECISIONS"} }},
		)
		if by != "actuator" {
			all = append(all, attack{by + " writes the actuator's ledger", denied, func(*field) blow {
				return blow{by: by, subject: "$KV.SELFHEAL_ACTIONS.d-1", body: []byte("{}")}
			}})
		}
	}
	for _, by := range []string{"watcher", "analyzer", "actuator", "notifier"} {
		agrees := func(f *field) blow {
			return blow{by: by, subject: "selfheal.v1." + cluster + ".approvals." + f.decision(f.sick).ID, header: nats.Header{}, body: []byte("{}")}
		}
		all = append(all,
			attack{by + " agrees in a person's place", denied, agrees},
			// The server drops a message of which it knows the id, whatever its subject.
			attack{by + " plants the id of a decision to come, as an approval", denied, func(f *field) blow {
				return agrees(f).with(nats.MsgIdHdr, f.decision(f.sick).ID)
			}},
			attack{by + " plants the id of a decision to come, as a pause", denied, func(f *field) blow {
				return blow{by: by, subject: "selfheal.v1." + cluster + ".control.pause", header: nats.Header{}, body: []byte("{}")}.with(nats.MsgIdHdr, f.decision(f.sick).ID)
			}},
			attack{by + " shapes the stream of decisions", denied, func(*field) blow {
				return blow{by: by, subject: "$JS.API.STREAM.CREATE.SELFHEAL_DECISIONS", body: []byte(`{"name":"SELFHEAL_DECISIONS"}`)}
			}},
		)
	}
	return all
}

// replayed are attacks with an honest decision that was carried out.
func replayed(honest blow) []attack {
	again := func(change func(b blow) blow) func(*field) blow { return func(*field) blow { return change(honest) } }
	return []attack{
		{"replayed: as it was", nothing, again(func(b blow) blow { return b })},
		{"replayed: without an id of the message", silence, again(func(b blow) blow { return b.with(nats.MsgIdHdr) })},
		{"replayed: with the id of a dead letter's replay", silence, again(func(b blow) blow { return b.with(nats.MsgIdHdr, heal.ID("y", "x")) })},
		{"replayed: with another id of the message", malformed, again(func(b blow) blow { return b.with(nats.MsgIdHdr, "d-other") })},
	}
}
