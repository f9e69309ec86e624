package guide

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/selfheal/selfheal/test/harness"
)

// before is what a page takes for granted beyond the world, as commands.
var before = map[string][]string{
	"docs/cli.md": {
		"cp deploy/policies/conservative.yaml policy.yaml",
		"cp deploy/policies/business-hours.yaml candidate.yaml",
		"cp deploy/policies/conservative_test.yaml policy_test.yaml",
		"echo 'mode: observe' > staging.yaml",
		"cp ~/.kube/config staging.kubeconfig",
		"echo xoxb-1-2 > token",
		"selfheal get results -o json | jq '.items[0]' > result.json",
		"printf 'routes: []\\n' > notify.yaml",
		"export SLACK_WEBHOOK_URL=$SLACK SLACK_API_URL=$SLACK/",
		install,
	},
	"docs/upgrade.md": {install},
}

const install = "helm install self-healing deploy/helm/self-healing -n self-healing --create-namespace"

// fresh is what commands take for granted not to be there: of the command, what
// makes it so.
var fresh = []struct{ command, by string }{
	{`^kubectl (.*) create secret generic (\S+) .*`, "kubectl $1 delete secret $2 --ignore-not-found"},
	{`^helm install self-healing .*`, "helm uninstall self-healing -n self-healing --ignore-not-found --no-hooks --wait"},
}

// A session is the carrying out of one page.
type session struct {
	*world
	sh    *shell
	ports map[string]string
	own   *harness.NATS
}

// A standIn is what a page has in the place of something that is another one
// for every reader, and what it is here.
type standIn struct {
	command string // in which commands, if not in all
	written string
	means   func(t *testing.T, s *session, written string) string
}

const anID = `2b5nk1hr4tp6k3v9q0e8c7ma`

var standIns = []standIn{
	{"", `nats://127\.0\.0\.1:4222`, func(t *testing.T, s *session, _ string) string {
		if s.own == nil { // one that is as new as the reader's
			s.own = harness.StartNATS(t)
		}
		return s.own.URL
	}},
	{"", `\b808[0-9]\b`, func(t *testing.T, s *session, port string) string {
		if s.ports[port] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			s.ports[port] = fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
		}
		return s.ports[port]
	}},
	{"", `https://hooks\.slack\.com/services/\S+`, func(_ *testing.T, s *session, _ string) string { return s.slack }},
	{"", `checkout-7d9f6c-x2kpl`, func(_ *testing.T, s *session, _ string) string { return s.sick }},
	{"", `node/n1`, func(*testing.T, *session, string) string { return "node/node-1" }},
	{"", `i-` + anID, func(t *testing.T, s *session, _ string) string { return s.healed(t, "checkout").IncidentID }},
	{"approve d-", `d-` + anID, func(t *testing.T, s *session, _ string) string { return s.waiting(t, "cart") }},
	{"reject d-", `d-` + anID, func(t *testing.T, s *session, _ string) string { return s.waiting(t, "search") }},
	{"undo d-", `d-` + anID, func(t *testing.T, s *session, _ string) string { return s.rolledBack(t) }},
	{"silence remove", `s-(` + anID + `|…)`, func(t *testing.T, s *session, _ string) string {
		said := s.must(t, "selfheal", "silence", "list")
		id := regexp.MustCompile(`(?m)^s-\w+`).FindString(said)
		if id == "" {
			t.Fatalf("no silence is in force: %s", said)
		}
		return id
	}},
	{"dlq (show|drop|replay) 3", `\b3( 4)?\b`, func(t *testing.T, s *session, numbers string) string {
		first, second := s.letters(t)
		if numbers == "3" {
			return first
		}
		return first + " " + second
	}},
}

// understand puts what is meant in the place of what stands for it.
func (s *session) understand(t *testing.T, text string) string {
	t.Helper()
	for _, in := range standIns {
		if regexp.MustCompile(in.command).MatchString(text) {
			text = regexp.MustCompile(in.written).ReplaceAllStringFunc(text, func(written string) string { return in.means(t, s, written) })
		}
	}
	return text
}

// says is what commands must say to have worked; of the first row that fits.
var says = []struct{ command, says string }{
	{`^nats stream info`, `SELFHEAL_RESULTS`}, // a source
	{`^nats context `, `ops`},
	{`^nats micro (ls|list)`, `selfheal-analyzer`},
	{`^nats sub .*node_failure`, ``}, // no node need have failed
	{`^nats sub `, `"specversion":"1.0"`},
	{`^nats stream subjects .*\.failed\.`, ``}, // nothing need have failed
	{`^nats `, `(?i)selfheal`},
	{`^(bin/)?selfheal up`, `API server \S+ answers`},
	{`^(bin/)?selfheal watch *(#|$)`, `q quit`},
	{`^(bin/)?selfheal watch --plain`, `DECIDED`},
	{`>|\| jq|provision .*--dry-run`, ``}, // to a file, or only what there is of it
	{`^(bin/)?(kubectl )?selfheal `, `\S`},
	{``, ``},
}

// expect is what the command must say.
func expect(text string) *regexp.Regexp {
	for _, row := range says {
		if regexp.MustCompile(row.command).MatchString(text) {
			return regexp.MustCompile(row.says)
		}
	}
	return nil // the last row fits all
}

// machines are programs that this machine may lack, and users need not.
var machines = regexp.MustCompile(`\b(jq|curl)\b`)

func lacks(text string) string {
	for _, program := range machines.FindAllString(text, -1) {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	return ""
}

// try carries a command out and reports what is not as the page says.
func (s *session) try(t *testing.T, c command) {
	t.Helper()
	defer func(begin time.Time) {
		if took := time.Since(begin); took > 3*time.Second {
			t.Logf("%.1f s: %s", took.Seconds(), c)
		}
	}(time.Now())
	text := s.understand(t, c.text)
	for _, f := range fresh {
		if re := regexp.MustCompile(f.command); re.MatchString(text) {
			if said, code := s.sh.run(re.ReplaceAllString(text, f.by)); code != 0 {
				t.Errorf("%s\nbefore it, %s: exit code %d\n%s", c, f.by, code, said)
			}
		}
	}
	var said string
	var err error
	if c.fate == interrupted {
		said, err = s.sh.drive(text, turn{expect(text), ctrlC})
	} else {
		var code int
		said, code = s.sh.run(text)
		switch {
		case c.fate == refused && code == 0:
			err = fmt.Errorf("it was not refused")
		case c.fate == refused && !regexp.MustCompile(`(?i)not permitted|denied|not allowed|refused|forbidden`).MatchString(said):
			err = fmt.Errorf("exit code %d, but it does not say that it was refused", code)
		case c.fate == works && code != 0 || c.fate == fails && c.why != fmt.Sprint(code):
			err = fmt.Errorf("exit code %d", code)
		case c.fate != refused && !expect(text).MatchString(said):
			err = fmt.Errorf("it does not say %q", expect(text))
		}
	}
	if err != nil {
		t.Errorf("%s\n%v, as %q:\n%s", c, err, text, said)
	}
}

// folder is a working tree for one page: what a command makes there is gone afterwards.
func (w *world) folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(w.root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := os.Symlink(filepath.Join(w.root, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestEveryCommandOfThePagesWorksAsItStandsThere(t *testing.T) {
	count := map[fate]int{}
	todo := map[string][]command{}
	var order []string
	for _, p := range readPages(t) {
		for _, c := range p.commands(t) {
			count[c.fate]++
			if c.fate == untried {
				if strings.TrimSpace(c.why) == "" {
					t.Errorf("%s: it is not said why it is not tried", c)
				}
				continue
			}
			if len(todo[p.name]) == 0 {
				order = append(order, p.name)
			}
			todo[p.name] = append(todo[p.name], c)
		}
	}
	total := count[works] + count[fails] + count[refused] + count[interrupted]
	t.Logf("%d commands on %d pages are carried out (%d of them until Ctrl-C, %d to be refused, %d to end with another exit code than 0), %d are marked as not tried",
		total, len(order), count[interrupted], count[refused], count[fails], count[untried])
	if total < 50 {
		t.Fatal("that is not all")
	}

	w := newWorld(t)
	// Those that need what happens in the shop come last.
	slices.SortStableFunc(order, func(a, b string) int { return late(a) - late(b) })
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			s := &session{world: w, ports: map[string]string{}}
			s.sh = open(t, w.folder(t), append(w.env(), "SLACK="+w.slack))
			if late(name) > 0 {
				w.healed(t, "checkout")
				w.letters(t)
			}
			charted := false
			for _, text := range before[name] {
				charted = charted || strings.HasPrefix(text, "helm ")
				if said, code := s.sh.run(text); code != 0 {
					t.Fatalf("before the page: %s: exit code %d\n%s", text, code, said)
				}
			}
			for _, c := range todo[name] {
				charted = charted || strings.HasPrefix(c.text, "helm ") || strings.HasPrefix(c.text, "kubectl ")
				if program := lacks(c.text); program != "" {
					t.Logf("%s: not tried on this machine, which has no %s", c, program)
					continue
				}
				s.try(t, c)
			}
			if charted {
				w.uninstall(t)
			}
		})
	}
	t.Run("the keys of the live view", w.steer)
}

// late orders the pages: what is audited has happened before.
func late(name string) int {
	return slices.Index([]string{"docs/operate.md", "docs/cli.md", "docs/audit.md"}, name) + 1
}

// steer answers and pauses by the keys of the live view.
func (w *world) steer(t *testing.T) {
	w.waiting(t, "search")
	re := regexp.MustCompile
	screen, err := open(t, w.folder(t), w.env()).drive("selfheal watch",
		turn{re(`▸ .* waiting `), "a"},
		turn{re(`approve .*\? y for yes`), "y"},
		turn{re(`approve: sent`), "p"},
		turn{re(`pause .*\? y for yes`), "n"},
		turn{re(`not done: pause`), "q"})
	if err != nil {
		t.Errorf("%v:\n%s", err, screen)
	}
	if said := w.must(t, "selfheal", "audit", "--since", "1m"); !strings.Contains(said, "by key, in selfheal watch") {
		t.Errorf("the approval is not on record:\n%s", said)
	}
}
