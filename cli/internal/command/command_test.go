package command

import (
	"bytes"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/selfheal/selfheal/cli/internal/embed"
	"github.com/selfheal/selfheal/pkg/config"
)

// execute runs a command line and returns what it printed to its output.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTheVersionIsOneLine(t *testing.T) {
	want := regexp.MustCompile(`^selfheal v\S+ \(\S+, go\S+\)\n$`)
	for _, args := range [][]string{{"version"}, {"--version"}} {
		got, err := execute(t, args...)
		if err != nil || !want.MatchString(got) {
			t.Errorf("%v prints %q, %v", args, got, err)
		}
	}
}

func TestMistakesOnTheCommandLineAreNamed(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"upp"}, `unknown command "upp"; did you mean "up"?`},
		{[]string{"frobnicate"}, `unknown command "frobnicate"`},
		{[]string{"up", "now"}, `unexpected argument "now"`},
		{[]string{"up", "--mod", "auto"}, "unknown flag: --mod"},
		{[]string{"up", "--nats-sync", "sometimes"}, `--nats-sync "sometimes": want always, or a duration such as 10s`},
		{[]string{"up", "--http-port", "65534"}, "--http-port 65534: want 0 to 65532"},
		{[]string{"demo", "--keep", "--stop"}, "--keep and --stop: give one of them"},
		{[]string{"version", "--verbose"}, "unknown flag: --verbose"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			_, err := execute(t, tt.args...)
			var usage usageError
			if !errors.As(err, &usage) || err.Error() != tt.want {
				t.Errorf("got %v, want the usage error %q", err, tt.want)
			}
		})
	}
}

func TestWrongSettingsOfUpAreErrorsOfSettings(t *testing.T) {
	_, err := execute(t, "up", "--mode", "ACT", "--data-dir", t.TempDir())
	if !errors.Is(err, config.ErrSettings) || !strings.Contains(err.Error(), "mode (flag --mode)") {
		t.Errorf("got %v, want an error about the flag --mode", err)
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"version"}, exitOK},
		{[]string{"upp"}, exitUsage},
		{[]string{"up", "--mode", "ACT", "--data-dir", t.TempDir()}, exitUsage},
		{[]string{"up", "--kubeconfig", filepath.Join(t.TempDir(), "missing"), "--data-dir", t.TempDir()}, exitUsage},
		{[]string{"demo", "--dir", t.TempDir()}, exitFailed},
	} {
		if got := Main(tt.args); got != tt.want {
			t.Errorf("%v exits with %d, want %d", tt.args, got, tt.want)
		}
	}
}

func TestTheDemoSaysWhatIsNotBuilt(t *testing.T) {
	_, err := execute(t, "demo", "--dir", t.TempDir()) // beside the test's binary there is nothing
	if err == nil || !strings.Contains(err.Error(), "devcluster, watcher, analyzer, actuator, notifier not found in ") || !strings.Contains(err.Error(), "make demo") {
		t.Errorf("got %v", err)
	}
}

func TestStoppingNoDemoIsNoError(t *testing.T) {
	if _, err := execute(t, "demo", "--stop", "--dir", filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
}

func TestDataLiesWhereTheUserKeepsIt(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HOME": "/home/me"}, "/home/me/.local/share/selfheal"},
		{map[string]string{"HOME": "/home/me", "XDG_DATA_HOME": "/data"}, "/data/selfheal"},
		{map[string]string{"HOME": "/home/me", "XDG_DATA_HOME": "relative"}, "/home/me/.local/share/selfheal"},
		{nil, ".selfheal"},
	} {
		if got := dataDir(func(name string) string { return tt.env[name] }); got != tt.want {
			t.Errorf("with %v in %q, want %q", tt.env, got, tt.want)
		}
	}
}

func TestHowOftenToSync(t *testing.T) {
	for text, want := range map[string]time.Duration{"always": embed.SyncAlways, "10s": 10 * time.Second, "2m": 2 * time.Minute} {
		if got, err := parseSync(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1s", "never"} {
		if got, err := parseSync(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
