package command

import (
	"crypto/rand"
	"fmt"

	"github.com/nats-io/nkeys"

	"github.com/selfheal/selfheal/pkg/sign"
)

// The keys of an installation lie in three places: folders, or Secrets.
const (
	natsKeys    = "nats"    // who may connect to the bundled NATS server
	signingKeys = "signing" // who may decide
	peopleKeys  = "people"  // what people keep
)

// services connect to NATS with seeds of their own. The keeper is who makes the
// streams, beside the server.
var services = []string{"watcher", "analyzer", "actuator", "notifier", "keeper"}

// A keyPair is two halves that belong together, or one secret without a second
// half.
type keyPair struct {
	private, public spot
	make            func() (secret, open []byte, err error)
	open            func(secret []byte) ([]byte, error) // the other half of a secret; nil where both lie together anyway
}

// A spot is where a key lies.
type spot struct{ folder, name string }

func (s spot) String() string { return s.folder + "/" + s.name }

// keyPairs is every key of an installation.
func keyPairs() []keyPair {
	var all []keyPair
	for folder, clients := range map[string][]string{natsKeys: services, peopleKeys: {"operator", "admin"}} {
		for _, client := range clients {
			all = append(all, keyPair{private: spot{folder, client + ".seed"}, public: spot{natsKeys, client + ".pub"}, make: makeUser, open: openUser})
		}
	}
	return append(all,
		keyPair{private: spot{natsKeys, "route.password"}, make: func() ([]byte, []byte, error) { return []byte(randomText()), nil, nil }},
		keyPair{private: spot{signingKeys, "decisions.key"}, public: spot{signingKeys, "decisions" + sign.Suffix}, make: sign.Generate})
}

func makeUser() (seed, public []byte, err error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, nil, err
	}
	if seed, err = user.Seed(); err != nil {
		return nil, nil, err
	}
	public, err = openUser(seed)
	return seed, public, err
}

func openUser(seed []byte) ([]byte, error) {
	user, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, err
	}
	text, err := user.PublicKey()
	return []byte(text), err
}

// randomText is unguessable: 26 letters and digits.
func randomText() string { return rand.Text() }

// missingKeys is what the folders lack of which have knows the content, by
// folder and name. Of people's pairs the open half is enough: they may have
// taken the other one away. Half of another pair is an error, as a new one
// would not fit what somebody uses.
func missingKeys(have map[string]map[string][]byte) (map[string]map[string][]byte, error) {
	lacks := map[string]map[string][]byte{}
	add := func(s spot, key []byte) {
		if lacks[s.folder] == nil {
			lacks[s.folder] = map[string][]byte{}
		}
		lacks[s.folder][s.name] = key
	}
	for _, k := range keyPairs() {
		folder, wanted := have[k.private.folder]
		if !wanted {
			continue
		}
		secret, there := folder[k.private.name]
		_, also := have[k.public.folder][k.public.name]
		switch {
		case there && (also || k.public == spot{}), also && k.private.folder == peopleKeys:
		case there && k.open != nil:
			open, err := k.open(secret)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k.private, err)
			}
			add(k.public, open)
		case there || also:
			return nil, fmt.Errorf("of %s and %s only one is there; put the other back, or take it away to have both made anew", k.private, k.public)
		default:
			secret, open, err := k.make()
			if err != nil {
				return nil, fmt.Errorf("make %s: %w", k.private, err)
			}
			add(k.private, secret)
			if k.public != (spot{}) {
				add(k.public, open)
			}
		}
	}
	return lacks, nil
}
