package config

import (
	"crypto/sha256"
	"slices"
)

// An Origin says which layer a setting came from.
type Origin struct {
	Key   string `json:"key"`
	Value string `json:"value"` // *** for a secret
	From  string `json:"from"`  // default; file /etc/x.yaml line 12; environment DRY_RUN; flag --mode
}

// Origins says which layer each setting came from.
type Origins struct {
	all []Origin
	sum [sha256.Size]byte // of everything that was read from files
}

// All is every setting, in the order of --help.
func (o *Origins) All() []Origin { return slices.Clone(o.all) }

// Of is the origin of one setting; the zero value if there is none of that key.
func (o *Origins) Of(key string) Origin {
	i := slices.IndexFunc(o.all, func(x Origin) bool { return x.Key == key })
	if i < 0 {
		return Origin{}
	}
	return o.all[i]
}

// Changed is the keys of the settings in which a and b differ.
func Changed(a, b Settings) []string {
	var keys []string
	before := table(&a)
	for i, after := range table(&b) {
		if before[i].kind.text() != after.kind.text() {
			keys = append(keys, after.key)
		}
	}
	return keys
}
