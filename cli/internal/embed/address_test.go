package embed

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestARunningServerIsFound(t *testing.T) {
	dir := t.TempDir()
	if a, found := Find(dir); found {
		t.Errorf("found %+v before it ran", a)
	}
	s, err := Start(t.Context(), Options{Dir: dir, Cluster: "staging"})
	if err != nil {
		t.Fatal(err)
	}
	got, found := Find(dir)
	if diff := cmp.Diff(Address{URL: s.URL(), Cluster: "staging"}, got); diff != "" || !found {
		t.Errorf("found %v (-want +got):\n%s", found, diff)
	}
	left, err := os.ReadFile(addressFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if err := os.WriteFile(addressFile(dir), left, 0o600); err != nil { // as if it had been killed
		t.Fatal(err)
	}
	if a, found := Find(dir); found {
		t.Errorf("found %+v after it ended", a)
	}
}
