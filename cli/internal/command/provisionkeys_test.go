package command

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"
)

type folders = map[string]map[string][]byte

// names are the keys of each folder.
func names(f folders) map[string][]string {
	all := map[string][]string{}
	for folder, keys := range f {
		for name := range keys {
			all[folder] = append(all[folder], name)
		}
		slices.Sort(all[folder])
	}
	return all
}

func TestMissingKeysAreMadeAndOthersLeftAlone(t *testing.T) {
	full, err := missingKeys(folders{natsKeys: {}, signingKeys: {}, peopleKeys: {}})
	if err != nil {
		t.Fatal(err)
	}
	without := func(remove ...spot) folders {
		f := folders{}
		for folder, keys := range full {
			f[folder] = map[string][]byte{}
			for name, key := range keys {
				if !slices.Contains(remove, spot{folder, name}) {
					f[folder][name] = key
				}
			}
		}
		return f
	}
	tests := []struct {
		name string
		have folders
		want map[string][]string
		err  string
	}{
		{"everything is there", without(), map[string][]string{}, ""},
		{"a new client", without(spot{natsKeys, "keeper.seed"}, spot{natsKeys, "keeper.pub"}), map[string][]string{natsKeys: {"keeper.pub", "keeper.seed"}}, ""},
		{"decisions alone are wanted", folders{signingKeys: {}}, map[string][]string{signingKeys: {"decisions.key", "decisions.pub"}}, ""},
		{"people have taken their seeds away", without(spot{peopleKeys, "admin.seed"}, spot{peopleKeys, "operator.seed"}), map[string][]string{}, ""},
		{"an open half follows from the secret one", without(spot{natsKeys, "operator.pub"}, spot{natsKeys, "watcher.pub"}), map[string][]string{natsKeys: {"operator.pub", "watcher.pub"}}, ""},
		{"a secret half does not", without(spot{natsKeys, "watcher.seed"}), nil, "of nats/watcher.seed and nats/watcher.pub only one is there"},
		{"nor that of decisions", without(spot{signingKeys, "decisions.key"}), nil, "of signing/decisions.key and signing/decisions.pub only one is there"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := missingKeys(tt.have)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, names(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	again, err := missingKeys(without(spot{natsKeys, "operator.pub"}))
	if err != nil || string(again[natsKeys]["operator.pub"]) != string(full[natsKeys]["operator.pub"]) {
		t.Errorf("operator.pub is %s, want %s: %v", again[natsKeys]["operator.pub"], full[natsKeys]["operator.pub"], err)
	}
	for name, key := range full[natsKeys] {
		if strings.HasSuffix(name, ".pub") && !nkeys.IsValidPublicUserKey(string(key)) {
			t.Errorf("%s: %s is no public key", name, key)
		}
	}
}
