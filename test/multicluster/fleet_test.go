package multicluster

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer"
	"github.com/selfheal/selfheal/test/chart/rights"
	"github.com/selfheal/selfheal/test/chart/rights/natstest"
	"github.com/selfheal/selfheal/test/harness"
)

func deployed(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(harness.RepositoryRoot(t), "deploy", "multi-cluster", name)
}

// configure starts a server with a configuration of deploy/multi-cluster, on
// free ports of the loopback interface.
func configure(t *testing.T, file string) (*bustest.Server, *server.Options) {
	t.Helper()
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.Host, o.Port, o.HTTPPort = "127.0.0.1", server.RANDOM_PORT, 0
	if o.LeafNode.Port != 0 {
		port, err := harness.FreePort() // the same one after a restart
		if err != nil {
			t.Fatal(err)
		}
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", port
	}
	return bustest.Configure(t, *o), o
}

// A site is a NATS server with the keys to it.
type site struct {
	*bustest.Server
	name  string
	seeds map[string]string
}

// startHub returns the hub, and the address where clusters connect.
func startHub(t *testing.T) (hub site, leaves string) {
	t.Helper()
	seeds := natstest.Keys(t, "east", "west", "admin", "operator", "auditor")
	s, o := configure(t, deployed(t, "hub.conf"))
	return site{s, "hub", seeds}, net.JoinHostPort(o.LeafNode.Host, strconv.Itoa(o.LeafNode.Port))
}

// A link is the network between the clusters and the hub.
type link struct {
	addr, to string

	mu   sync.Mutex
	open []io.Closer // guarded by mu; the listener first
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	l := &link{addr: "127.0.0.1:0", to: to}
	l.mend(t)
	t.Cleanup(l.cut)
	return l
}

// cut ends all connections, and lets none begin.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close()
	}
	l.open = nil
}

// mend lets connections begin again, by the same address.
func (l *link) mend(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	l.addr = listener.Addr().String()
	l.mu.Lock()
	l.open = append(l.open, listener)
	l.mu.Unlock()
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", l.to)
			if err != nil {
				_ = near.Close()
				continue
			}
			l.mu.Lock()
			l.open = append(l.open, near, far)
			l.mu.Unlock()
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from) // whoever ends it ends the other
				_ = to.Close()
			}
			go pass(near, far)
			go pass(far, near)
		}
	}()
}

// startCluster starts the NATS server of a cluster, with its streams.
func startCluster(t *testing.T, name, hubURL, hubSeed string) site {
	t.Helper()
	seeds := natstest.Keys(t, rights.Names()...)
	dir := t.TempDir()
	conf, err := os.ReadFile(deployed(t, "leaf.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"leaf.conf": string(conf), "accounts.conf": rights.Fill(name, false)} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seed, err := os.ReadFile(hubSeed)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLUSTER", name)
	t.Setenv("HUB_URL", hubURL)
	t.Setenv("HUB_SEED", string(seed))
	server, _ := configure(t, filepath.Join(dir, "leaf.conf"))
	s := site{server, name, seeds}
	natstest.Stage{Server: server, Cluster: name, Seeds: seeds}.Provisioned(t, rights.Keeper, bus.Options{Keeper: true}).Close()
	return s
}

// bus is that of one of the cluster's services.
func (s site) bus(t *testing.T, service string) *bus.Bus {
	t.Helper()
	b := s.Connect(t, bus.Options{URL: s.URL(), Service: service, Cluster: s.name, NKeyFile: s.seeds[service]})
	harness.WaitFor(t, 10*time.Second, service+" of "+s.name+" to be connected", b.Ready)
	return b
}

// plain is a client of the site with somebody's key.
func (s site) plain(t *testing.T, who string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(s.seeds[who])
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.URL(), key, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // refusals are seen as timeouts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// stored is how many messages of each cluster a stream of the site holds.
func (s site) stored(t *testing.T, stream string) map[string]int {
	t.Helper()
	_, js := s.plain(t, "admin")
	info, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatalf("%s: stream %s: %v", s.name, stream, err)
	}
	state, err := info.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for subject, count := range state.State.Subjects {
		n[strings.Split(subject, ".")[2]] += int(count)
	}
	return n
}

// says has the services of a cluster say one failure's story, from detection to
// the result: 3 messages.
func (s site) says(t *testing.T, watcher, analyzes, acts *bus.Bus, pod string) {
	t.Helper()
	now := time.Now().UTC()
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: pod, UID: "u-" + s.name + "-" + pod}
	owner := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: pod, UID: "o-" + s.name + "-" + pod}
	f := heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: pod, Namespace: "shop", Target: target, Owner: owner,
		Detector: "crash_loop", Description: "it crashes", EpisodeID: "e-" + s.name + "-" + pod, Occurrence: 1, FirstSeen: now, Timestamp: heal.Unix{Time: now},
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, target, owner, "", "CrashLoopBackOff"),
	}
	policy, err := analyzer.ParsePolicy([]byte("name: fleet\n"))
	if err != nil {
		t.Fatal(err)
	}
	d, made := analyzer.NewReplay(analyzer.ReplayConfig{Policy: policy}).Take(analyzer.Recorded{At: now, Failure: &f})
	if !made {
		t.Fatal("nothing was decided")
	}
	r := heal.Result{Decision: d, Outcome: heal.Skipped, Reason: "Recovered", Message: "it is well", Attempt: 1, StartedAt: now}
	ctx := t.Context()
	for _, err := range []error{bus.Failures.Publish(ctx, watcher, f), bus.Decisions.Publish(ctx, analyzes, d), bus.Results.Publish(ctx, acts, r)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// recordOf adds the hub's stream as the documents say, with the nats command line.
func recordOf(t *testing.T, hub site) {
	t.Helper()
	tool := filepath.Join(harness.RepositoryRoot(t), ".cache", "bin", "nats-v0.4.0")
	cmd := exec.CommandContext(t.Context(), tool, "--server", hub.URL(), "--nkey", hub.seeds["admin"], "stream", "add", "--config", deployed(t, "record.json"))
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nats (make nats): %v\n%s", err, out)
	}
}

func same(t *testing.T, limit time.Duration, what string, want map[string]int, got func() map[string]int) {
	t.Helper()
	harness.WaitFor(t, limit, what, func() error {
		if n := got(); !maps.Equal(n, want) {
			return fmt.Errorf("%v, want %v", n, want)
		}
		return nil
	})
}

func TestTheHubKeepsTheRecordOfEveryClusterAndNoneHearsOfAnother(t *testing.T) {
	const audit = heal.StreamPrefix + "AUDIT"
	hub, leaves := startHub(t)
	link := newLink(t, leaves)
	live, _ := hub.plain(t, "auditor")
	seen, err := live.SubscribeSync("selfheal.v1.*.decisions.>")
	if err != nil {
		t.Fatal(err)
	}
	type services struct{ watcher, analyzer, actuator *bus.Bus }
	clusters := map[string]site{}
	running := map[string]services{}
	for _, name := range []string{"east", "west"} {
		s := startCluster(t, name, "nats-leaf://"+link.addr, hub.seeds[name])
		clusters[name], running[name] = s, services{s.bus(t, "watcher"), s.bus(t, "analyzer"), s.bus(t, "actuator")}
	}
	say := func(name, pod string) {
		r := running[name]
		clusters[name].says(t, r.watcher, r.analyzer, r.actuator, pod)
	}
	recordOf(t, hub)
	say("east", "one")
	say("west", "one")
	say("west", "two")
	record := func() map[string]int { return hub.stored(t, audit) }
	same(t, 30*time.Second, "the record of both clusters at the hub", map[string]int{"east": 3, "west": 6}, record)

	t.Run("each decision is seen live at the hub", func(t *testing.T) {
		from := map[string]int{}
		for range 3 {
			m, err := seen.NextMsg(5 * time.Second)
			if err != nil {
				t.Fatalf("after %v: %v", from, err)
			}
			from[strings.Split(m.Subject, ".")[2]]++
		}
		if want := map[string]int{"east": 1, "west": 2}; !maps.Equal(from, want) {
			t.Errorf("got %v, want %v", from, want)
		}
	})

	t.Run("an auditor reads one cluster's story there", func(t *testing.T) {
		b := hub.Connect(t, bus.Options{URL: hub.URL(), Service: "selfheal", Cluster: "east", NKeyFile: hub.seeds["auditor"]})
		harness.WaitFor(t, 10*time.Second, "the connection", b.Ready)
		var subjects []string
		if _, err := b.Read(t.Context(), bus.Audit, time.Time{}, func(r bus.Raw) error { subjects = append(subjects, r.Subject); return nil }); err != nil {
			t.Fatal(err)
		}
		slices.Sort(subjects)
		want := []string{
			"selfheal.v1.east.decisions.pod_failure.restart.medium.shop.pod.one", "selfheal.v1.east.failures.pod_failure.shop.pod.one",
			"selfheal.v1.east.results.pod_failure.restart.skipped.shop.pod.one",
		}
		if diff := cmp.Diff(want, subjects); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})

	t.Run("no cluster holds a word of another", func(t *testing.T) {
		for name, s := range clusters {
			for _, stream := range []string{bus.Failures.Stream, bus.Decisions.Stream, bus.Results.Stream, audit} {
				if n := s.stored(t, stream); len(n) != 1 || n[name] == 0 {
					t.Errorf("%s of %s holds %v", stream, name, n)
				}
			}
		}
	})

	t.Run("an operator at the hub pauses one cluster", func(t *testing.T) {
		b := hub.Connect(t, bus.Options{URL: hub.URL(), Service: "selfheal", Cluster: "east", NKeyFile: hub.seeds["operator"]})
		harness.WaitFor(t, 10*time.Second, "the connection", b.Ready)
		if err := bus.Controls.Publish(t.Context(), b, heal.Control{Verb: heal.Pause, By: "anna", Reason: "the database moves", At: time.Now().UTC()}); err != nil {
			t.Fatal(err)
		}
		_, js := clusters["east"].plain(t, "admin")
		stream, err := js.Stream(t.Context(), bus.Controls.Stream)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.GetLastMsgForSubject(t.Context(), "selfheal.v1.east.control.pause"); err != nil {
			t.Errorf("it did not arrive: %v", err)
		}
		if n := clusters["west"].stored(t, bus.Controls.Stream); n["west"] != 2 || len(n) != 1 {
			t.Errorf("the other cluster has %v", n)
		}
		same(t, 20*time.Second, "the pause on the record", map[string]int{"east": 4, "west": 6}, record)
	})

	t.Run("the hub can neither decide nor change what a cluster holds", func(t *testing.T) {
		before := clusters["east"].stored(t, bus.Decisions.Stream)
		nc, js := hub.plain(t, "admin")
		for _, subject := range []string{
			"selfheal.v1.east.decisions.pod_failure.restart.medium.shop.pod.forged", "selfheal.v1.east.failures.pod_failure.shop.pod.forged",
			"$SELFHEAL.API.STREAM.PURGE.SELFHEAL_DECISIONS", "fleet.east.STREAM.DELETE.SELFHEAL_DECISIONS", "$KV.SELFHEAL_INCIDENTS.forged",
			"fleet.east.CONSUMER.DELETE.SELFHEAL_FAILURES.analyzer", "$JS.ACK.SELFHEAL_DECISIONS.actuator.1.1.1.1.1",
		} {
			if m, err := nc.Request(subject, []byte("{}"), 200*time.Millisecond); err == nil {
				t.Errorf("%s was answered: %s", subject, m.Data)
			}
		}
		if _, err := js.Stream(t.Context(), bus.Decisions.Stream); err == nil {
			t.Error("the hub sees a cluster's stream as its own")
		}
		if after := clusters["east"].stored(t, bus.Decisions.Stream); !maps.Equal(before, after) {
			t.Errorf("decisions: %v, before %v", after, before)
		}
	})

	t.Run("a cluster whose link is cut goes on, and the hub misses nothing of it", func(t *testing.T) {
		link.cut()
		for i := range 10 {
			say("east", fmt.Sprintf("away-%d", i))
		}
		if n := record(); n["east"] != 4 {
			t.Errorf("the hub has %v while the link is cut", n)
		}
		link.mend(t)
		same(t, 60*time.Second, "what was missed", map[string]int{"east": 34, "west": 6}, record)
		say("west", "after")
		same(t, 30*time.Second, "what came after", map[string]int{"east": 34, "west": 9}, record)
	})

	if os.Getenv("FLEET") != "long" { // the hub's server asks again after half a minute
		return
	}
	t.Run("a hub that was away misses nothing of any cluster", func(t *testing.T) {
		hub.Stop()
		say("east", "hub-away")
		say("west", "hub-away")
		hub.Restart(t)
		same(t, 3*time.Minute, "what was missed", map[string]int{"east": 37, "west": 12}, record)
	})
}

func TestTheHubsAccountsAreTheSameForEveryCluster(t *testing.T) {
	text, err := os.ReadFile(deployed(t, "hub.conf"))
	if err != nil {
		t.Fatal(err)
	}
	of := func(name string) []string {
		var lines []string
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, name) || strings.Contains(line, strings.ToUpper(name)) {
				lines = append(lines, strings.NewReplacer(name, "<cluster>", strings.ToUpper(name), "<CLUSTER>").Replace(line))
			}
		}
		return lines
	}
	if diff := cmp.Diff(of("east"), of("west")); diff != "" {
		t.Errorf("(-east +west):\n%s", diff)
	}
	var record jetstream.StreamConfig
	data, err := os.ReadFile(deployed(t, "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	if len(record.Sources) != 2 || !record.DenyDelete || !record.DenyPurge {
		t.Errorf("%d sources, deny_delete %v, deny_purge %v", len(record.Sources), record.DenyDelete, record.DenyPurge)
	}
}

func TestTheChartTakesTheValuesOfACluster(t *testing.T) {
	root := harness.RepositoryRoot(t)
	helm := filepath.Join(root, ".cache", "bin", "helm-v3.22.0")
	out, err := exec.CommandContext(t.Context(), helm, "template", "self-healing", filepath.Join(root, "deploy", "helm", "self-healing"), "-f", deployed(t, "values-east.yaml")).CombinedOutput()
	if err != nil {
		t.Fatalf("helm: %v\n%s", err, out)
	}
	text := string(out)
	if n := strings.Count(text, "replicas: 3\n"); n != 4 {
		t.Errorf("%d Deployments have 3 replicas, want 4", n)
	}
	for _, want := range []string{"nats_url: \"nats://nats.nats:4222\"\n", "secretName: self-healing-nats\n", "cluster: \"east\"\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if strings.Contains(text, "kind: StatefulSet") {
		t.Error("it brings a NATS server of its own")
	}
}
