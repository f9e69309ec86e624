package notifier

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/channel"
	"github.com/selfheal/selfheal/services/notifier/internal/double"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

var (
	incidents = flag.Int("incidents", 100, "how many incidents the storm has; the long run has 10000")
	kills     = flag.Int("kills", 3, "how often the notifier is killed; the long run does so 50 times")
)

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim()
		return
	}
	bustest.VerifyTestMain(m)
}

// In a storm everybody hears of everything, in few messages, and the page does
// not wait.
func TestAStormIsFewMessagesAndThePageDoesNotWait(t *testing.T) {
	slack, pager := double.NewSlack(t, time.Second), double.NewPagerDuty(t)
	r := start(t, talking(slack, pager))
	until(t, "listening", func() bool { return r.listens() == nil })
	page := critical("the one that matters")
	var paged time.Time
	var g errgroup.Group
	g.SetLimit(32)
	for i := range *incidents {
		if i == *incidents/2 {
			paged = time.Now()
			publish(t, r, bus.Decisions, page)
		}
		g.Go(func() error {
			d := sample.At(heal.High, fmt.Sprint(i)).Decision
			return errors.Join(bus.Decisions.Publish(t.Context(), r.bus, d), bus.Results.Publish(t.Context(), r.bus, ended(d, heal.Failed)))
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	stored := time.Now()
	within(t, 10*time.Minute, "paged", func() bool { _, rang, _ := pager.Alerts(); return len(rang) == 1 })
	_, _, first := pager.Alerts()
	took := first[page.IncidentID].Sub(paged)
	if took > 2*time.Second {
		t.Errorf("the page took %s, want at most 2s", took)
	}
	represented := func() (own, inDigest int) {
		for _, p := range slack.Posts("#incidents") {
			if strings.HasPrefix(p.Conversation, "i-") {
				own++
			}
			var n, open int
			if _, text, found := strings.Cut(p.Headline, "🌩 "); found {
				if _, err := fmt.Sscanf(text, "%d incidents in a storm, %d", &n, &open); err == nil {
					inDigest += n
				}
			}
		}
		return own, inDigest
	}
	within(t, 10*time.Minute, "all represented", func() bool { own, in := represented(); return own+in == *incidents+1 })
	own, in := represented()
	t.Logf("%d incidents stored after %s; page after %s; %d messages, %d incidents in digests, all represented %s after the last was stored", *incidents, time.Since(paged).Round(time.Millisecond), took.Round(time.Millisecond), len(slack.Posts("")), in, time.Since(stored).Round(time.Millisecond))
	if n := len(slack.Posts("#incidents")); n > 20 || own > 20 {
		t.Errorf("%d messages, want at most 20", n)
	}
	if n := slack.Limited(); n != 0 {
		t.Errorf("%d avoidable answers 429, want none", n)
	}
	if w := append(slack.Wrong(), pager.Wrong()...); len(w) > 0 {
		t.Errorf("refused: %q", w)
	}
}

func within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// A victim is the notifier in a process of its own, to be killed.
const victimEnv = "SELFHEAL_TEST_VICTIM"

func victim() {
	part := strings.Split(os.Getenv(victimEnv), " ")
	b, err := bus.Connect(bus.Options{URL: part[0], Service: Name, Cluster: bustest.Cluster})
	if err == nil {
		err = b.Provision(context.Background())
	}
	if err == nil {
		fmt.Println("ready")
		err = Run(context.Background(), Config{
			Settings: config.Settings{
				NotificationEnabled: true, SlackChannel: "#monitoring", SlackIncidentChannel: "#incidents", SlackAPIURL: part[1], SlackBotToken: double.Token,
				PagerDutyEnabled: true, PagerDutyAPIURL: part[2], PagerDutyRoutingKey: double.RoutingKey, NotifyPolicyFile: part[3],
			},
			SendTimeout: 5 * time.Second, Sweep: 100 * time.Millisecond,
		}, Deps{Bus: b})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Killed in the middle, again and again, it loses no page and doubles none.
func TestKilledAgainAndAgainItLosesNoPageAndDoublesNone(t *testing.T) {
	t.Parallel()
	server := bustest.Listen(t)
	b := server.Bus(t, "analyzer")
	slack, pager := double.NewSlack(t, 0), double.NewPagerDuty(t)
	file := t.TempDir() + "/policy.yaml"
	writeFile(t, file, "storm: {above: 1000}\nweekly: {disable: true}")
	begin := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0]) //nolint:gosec // it is this test
		cmd.Env = append(os.Environ(), victimEnv+"="+strings.Join([]string{server.URL(), slack.URL, pager.URL, file}, " "))
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	kill := func(cmd *exec.Cmd) { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	cmd := begin()
	defer func() { kill(cmd) }()
	var want []string
	for round := range *kills {
		d := critical(fmt.Sprintf("round %d", round))
		want = append(want, d.IncidentID)
		if err := errors.Join(bus.Decisions.Publish(t.Context(), b, d), bus.Results.Publish(t.Context(), b, ended(d, heal.Failed))); err != nil {
			t.Fatal(err)
		}
		// At another place of its work each time: after none, one, two of its messages.
		for range round % 3 {
			select {
			case <-slack.Written():
			case <-time.After(10 * time.Second):
			}
		}
		kill(cmd)
		cmd = begin()
	}
	// The second alert is the one for a person, after an acknowledge; which of them it was tells when we died.
	rings := func(id string) bool { _, rang, _ := pager.Alerts(); return rang[id]+rang[id+"-person"] > 0 }
	within(t, 5*time.Minute, "all paged", func() bool {
		return !slices.ContainsFunc(want, func(id string) bool {
			return !rings(id) || !slices.ContainsFunc(slack.Posts("#incidents"), func(p double.Post) bool { return p.Conversation == id && strings.Contains(p.Headline, "failed") })
		})
	})
	_, rang, _ := pager.Alerts()
	for id, n := range rang {
		if n != 1 {
			t.Errorf("%s rang %d times", id, n)
		}
	}
	posts := map[string]int{}
	for _, p := range slack.Posts("#incidents") {
		posts[p.Conversation]++
	}
	doubled := 0
	for _, n := range posts {
		doubled += n - 1
	}
	t.Logf("%d kills: %d incidents, %d pages, 0 lost, %d Slack messages, %d doubled", *kills, len(want), len(rang), len(posts), doubled)
	if doubled != 0 {
		t.Errorf("%d messages on Slack are doubled", doubled)
	}
}

// A hop delivers as the bus does, but in virtual time.
type hop struct {
	mu   sync.Mutex
	dead []error
}

func (h *hop) run(ctx context.Context, c *courier, n heal.Notification) time.Duration {
	stored := time.Now()
	for attempt := uint64(1); ; attempt++ {
		err := c.deliver(ctx, bus.Message[heal.Notification]{Event: heal.NewEvent(n, "test", Name, stored), Attempt: attempt, Stored: stored})
		switch delay, later := bus.Delay(err); {
		case err == nil:
			return time.Since(stored)
		case later:
			<-time.After(delay)
		default:
			h.mu.Lock()
			h.dead = append(h.dead, err)
			h.mu.Unlock()
			return time.Since(stored)
		}
	}
}

// A deaf channel takes nothing until a time.
type deaf struct{ until time.Time }

func (d deaf) Send(context.Context, heal.Notification) error {
	if time.Now().Before(d.until) {
		return &channel.SendError{Reason: "away"}
	}
	return nil
}

func TestAChannelThatIsDeadForADayCatchesUpOrIsGivenUpAndSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		for _, test := range []struct {
			down  time.Duration
			taken bool
		}{{time.Minute, true}, {23 * time.Hour, true}, {25 * time.Hour, false}} {
			m, err := newMetrics(nil)
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			c := &courier{
				line: &channel.Line{Name: "email", Channel: deaf{time.Now().Add(test.down)}}, enabled: true, giveUp: 24 * time.Hour,
				log: slog.New(slog.DiscardHandler), metrics: m,
				word: func(_ context.Context, name string, _ error, _ time.Time) { said = append(said, name) },
			}
			h := &hop{}
			took := h.run(t.Context(), c, sample.Notification("email", "ops@example.com", sample.Healed()))
			if taken := len(h.dead) == 0; taken != test.taken || len(said) != len(h.dead) {
				t.Errorf("down for %s: taken %t after %s, said %q, dead %v", test.down, taken, took, said, h.dead)
			}
			if test.taken && took-test.down > time.Minute {
				t.Errorf("down for %s: taken %s after it was back", test.down, took-test.down)
			}
		}
		if time.Since(begin) < 47*time.Hour {
			t.Error("no time has passed")
		}
	})
}

func TestOnAnotherChannelPeopleHearThatOneTakesNothing(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, Name)
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(b, slog.New(slog.DiscardHandler), m, defaultPolicy(t), []route.Listener{
		{Channel: "email", To: "ops@example.com", Audience: route.Incident}, {Channel: "slack", To: "#incidents", Audience: route.Incident, Edits: true},
	})
	for range 3 { // each message that is given up; one word a day is enough
		d.word(t.Context(), "email", errors.New("email_smtp_server: away"), sample.Noon)
	}
	got := make(chan heal.Notification, 4)
	go func() {
		_ = bus.Notifications.Consume(t.Context(), b, bus.Consumer{Name: "notifier-slack", Filter: "slack.>"}, func(_ context.Context, m bus.Message[heal.Notification]) error {
			got <- m.Data
			return nil
		})
	}()
	n := <-got
	if n.Digest == nil || !strings.Contains(n.Digest.Title, "the channel email did not take messages") || n.Severity != heal.High {
		t.Errorf("told: %+v", n)
	}
	if len(got) != 0 {
		t.Error("told twice")
	}
}
