package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A change is what Watch told, in short.
type change struct {
	mode string
	err  error
}

// watch runs Watch in a bubble of fake time while steps runs. The function
// that steps is given waits for the next change.
func watch(t *testing.T, l Loader, steps func(t *testing.T, next func() change, none func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		changes := make(chan change)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, since, _ := Load(l)
		go Watch(ctx, l, since, func(s Settings, _ *Origins, err error) {
			select {
			case changes <- change{s.Mode, err}:
			case <-ctx.Done():
			}
		})
		next := func() change {
			t.Helper()
			select {
			case c := <-changes:
				return c
			case <-time.After(time.Minute):
				t.Fatal("nothing was told within a minute")
				return change{}
			}
		}
		none := func() {
			t.Helper()
			select {
			case c := <-changes:
				t.Fatalf("got %+v, want nothing to be told", c)
			case <-time.After(time.Minute):
			}
		}
		steps(t, next, none)
		cancel()
		synctest.Wait()
	})
}

func TestWatchTellsOfNewContentsOnly(t *testing.T) {
	file := filepath.Join(filesIn(t, map[string]string{"c.yaml": "mode: auto\n"}), "c.yaml")
	watch(t, Loader{Args: []string{"--config", file}}, func(t *testing.T, next func() change, none func()) {
		none()

		write(t, file, "mode: observe\n")
		if got := next(); got.mode != "observe" || got.err != nil {
			t.Errorf("got %+v, want mode observe", got)
		}
		none()

		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
		none()
	})
}

func TestWatchTellsWhatIsWrongAndThatItIsRightAgain(t *testing.T) {
	file := filepath.Join(filesIn(t, map[string]string{"c.yaml": "mode: auto\n"}), "c.yaml")
	watch(t, Loader{Args: []string{"--config", file}}, func(t *testing.T, next func() change, none func()) {
		write(t, file, "mode: ACT\n")
		if got := next(); got.err == nil || !strings.Contains(got.err.Error(), `got "ACT"`) {
			t.Errorf("got %+v, want an error about ACT", got)
		}
		none()
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if got := next(); got.err == nil || !strings.Contains(got.err.Error(), "no such file") {
			t.Errorf("got %+v, want an error about the missing file", got)
		}
		write(t, file, "mode: approve\n")
		if got := next(); got.mode != "approve" || got.err != nil {
			t.Errorf("got %+v, want mode approve", got)
		}
	})
}

func TestWatchSeesTheSwapOfAMountedConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, mode string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "mode"), mode)
		// As the kubelet does: a new link beside the old one, renamed over it.
		link := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..2026_11_22_1", "auto")
	if err := os.Symlink(filepath.Join("..data", "mode"), filepath.Join(dir, "mode")); err != nil {
		t.Fatal(err)
	}
	watch(t, Loader{Environ: []string{"SELFHEAL_CONFIG_DIR=" + dir}}, func(t *testing.T, next func() change, none func()) {
		none()
		version("..2026_11_22_2", "observe")
		if got := next(); got.mode != "observe" || got.err != nil {
			t.Errorf("got %+v, want mode observe", got)
		}
	})
}

func TestWatchSeesARotatedSecret(t *testing.T) {
	file := filepath.Join(filesIn(t, map[string]string{"token": "xoxb-1"}), "token")
	watch(t, Loader{Environ: []string{"SLACK_BOT_TOKEN_FILE=" + file}}, func(t *testing.T, next func() change, none func()) {
		none()
		write(t, file, "xoxb-2")
		if got := next(); got.err != nil {
			t.Errorf("got %v, want the new secret", got.err)
		}
	})
}

func TestWatchWaitsUntilAHalfWrittenFileIsWhole(t *testing.T) {
	file := filepath.Join(filesIn(t, map[string]string{"c.yaml": "mode: auto\n"}), "c.yaml")
	watch(t, Loader{Args: []string{"--config", file}}, func(t *testing.T, next func() change, none func()) {
		write(t, file, "mode: obs")
		<-time.After(watchInterval + time.Millisecond) // one look falls into the middle of it
		write(t, file, "mode: observe\n")
		if got := next(); got.mode != "observe" || got.err != nil {
			t.Errorf("got %+v, want only the whole file to be told", got)
		}
	})
}

func TestSuggestionIsTheNearestNameIfOneIsNear(t *testing.T) {
	names := []string{"health_check_interval", "mode", "dry_run", "slack_channel", "slack_incident_channel"}
	for got, want := range map[string]string{
		"modus":                  "mode",
		"healthCheckInterval":    "health_check_interval",
		"health-check-intervall": "health_check_interval",
		"DRYRUN":                 "dry_run",
		"slack_chanel":           "slack_channel",
		"x":                      "",
		"":                       "",
		"unrelated":              "",
		strings.Repeat("y", 1e6): "",
	} {
		if want != "" {
			want = `; did you mean "` + want + `"?`
		}
		if text := didYouMean(got, names); text != want {
			t.Errorf("%.40s: got %s, want %s", got, text, want)
		}
	}
}

func TestWatchTellsOfAChangeThatCameBeforeItBegan(t *testing.T) {
	file := filepath.Join(filesIn(t, map[string]string{"c.yaml": "mode: auto\n"}), "c.yaml")
	l := Loader{Args: []string{"--config", file}}
	_, since, err := Load(l)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, "mode: observe\n")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var got []string
		Watch(ctx, l, since, func(s Settings, _ *Origins, _ error) { got = append(got, s.Mode) })
		if len(got) != 1 || got[0] != "observe" {
			t.Errorf("got %v, want observe, once", got)
		}
	})
}
