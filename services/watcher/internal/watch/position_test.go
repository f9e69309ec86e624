package watch

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

func TestPositionThatDoesNotFitSaysNothingRatherThanHalf(t *testing.T) {
	suspects := func(n int) (all []episode.Suspect) {
		for i := range n {
			all = append(all, episode.Suspect{Key: episode.Key{UID: fmt.Sprint("uid-", i), Detector: "crash_loop"}})
		}
		return all
	}
	long := json.RawMessage(`"` + strings.Repeat("x", maxPosition) + `"`)
	tests := []struct {
		name       string
		pos        position
		resumes    bool
		suspects   int
		remembered bool
	}{
		{"all fits", position{Version: "7", Suspects: suspects(3), Memory: json.RawMessage(`{}`)}, true, 3, true},
		{"too much is remembered", position{Version: "7", Suspects: suspects(3), Memory: long}, true, 3, false},
		{"too much is suspect", position{Version: "7", Suspects: suspects(10_000), Memory: json.RawMessage(`{}`)}, false, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data, err := fitPosition(&tt.pos)
			if err != nil || len(data) > maxPosition {
				t.Fatalf("%d bytes, %v; want at most %d", len(data), err, maxPosition)
			}
			var got position
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if (got.Version != "") != tt.resumes || len(got.Suspects) != tt.suspects || (got.Memory != nil) != tt.remembered {
				t.Errorf("version %q, %d suspects, memory of %d bytes", got.Version, len(got.Suspects), len(got.Memory))
			}
		})
	}
}

func TestClusterThatWasMadeAnewIsAnother(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, []byte("authority a"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := identity(&rest.Config{Host: "https://10.0.0.1", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("authority a")}})
	same := identity(&rest.Config{Host: "https://kubernetes.default", TLSClientConfig: rest.TLSClientConfig{CAFile: file}})
	b := identity(&rest.Config{Host: "https://10.0.0.1", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("authority b")}})
	bare := identity(&rest.Config{Host: "http://127.0.0.1:8080"})
	if a != same || a == b || b == bare {
		t.Errorf("identities %s, %s, %s, %s; want the first two alike, the others not", a, same, b, bare)
	}
}
