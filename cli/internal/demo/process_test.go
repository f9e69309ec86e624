package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func family(t *testing.T) *children {
	c := newChildren(t.TempDir())
	t.Cleanup(c.close)
	return c
}

func TestAChildHasItsEnvironmentAndItsLog(t *testing.T) {
	t.Setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/mine")
	c := family(t)
	lines := make(chan string, 1)
	p, err := c.start("talker", "/bin/sh", []string{"-c", `echo "got ${GIVEN-nothing} ${SLACK_WEBHOOK_URL-nothing}"; echo oh dear >&2; exit 3`},
		environment("GIVEN=this"), func(l string) { lines <- l })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := <-lines, "got this nothing"; got != want {
		t.Errorf("it said %q, want %q", got, want)
	}
	if ended := <-c.ended; ended != p {
		t.Errorf("%v ended, want the child", ended.name)
	}
	if got := p.failure().Error(); !strings.HasPrefix(got, "talker: exit status 3: oh dear (log: ") {
		t.Errorf("it failed with %q", got)
	}
}

func TestTheLastWordsAreThoseThatSayWhatWentWrong(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		`{"level":"INFO","msg":"all is well"}` + "\n": "",
		`{"level":"INFO","msg":"starting"}` + "\n" + `{"level":"ERROR","msg":"stopped","err":"no bus","exit_code":1}` + "\n": "stopped: no bus",
		"watcher: not started, because of its settings:\n  mode: unknown\n":                                                  "mode: unknown",
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(lastWords(path)); got != want {
			t.Errorf("the last words of %q are %q, want %q", text, got, want)
		}
	}
}

func TestAChildThatIsStoppedIsNoSurprise(t *testing.T) {
	c := family(t)
	polite, err := c.start("polite", "/bin/cat", nil, environment(), nil) // ends with its input, too
	if err != nil {
		t.Fatal(err)
	}
	if err := polite.stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	if err := polite.stop(10 * time.Second); err != nil {
		t.Errorf("stopped twice: %v", err)
	}
	select {
	case p := <-c.ended:
		t.Errorf("%s is said to have ended by itself", p.name)
	default:
	}
}

func TestAChildThatDoesNotStopIsKilled(t *testing.T) {
	c := family(t)
	ready := make(chan string, 1)
	stubborn, err := c.start("stubborn", "/bin/sh", []string{"-c", `trap "" TERM; echo ready; while :; do sleep 0.1; done`}, environment(), func(l string) { ready <- l })
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	if err := stubborn.stop(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("stopping it: %v", err)
	}
}

func TestWhatCannotBeStartedIsNamed(t *testing.T) {
	_, err := family(t).start("watcher", "/nowhere/watcher", nil, environment(), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "start watcher: ") {
		t.Errorf("got %v", err)
	}
}
