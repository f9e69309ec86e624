package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/selfheal/selfheal/services/watcher"
)

func main() {
	if os.Args[1] == "rules" {
		b, _ := json.Marshal(map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": map[string]any{"name": "w"}, "rules": watcher.Rules()})
		fmt.Println(string(b))
		return
	}
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: 14222, JetStream: true, StoreDir: os.Args[1], NoSigs: true, JetStreamMaxStore: 1 << 40})
	if err != nil { panic(err) }
	srv.Start()
	srv.ReadyForConnections(5 * time.Second)
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil { panic(err) }
	rc, err := clientcmd.BuildConfigFromFlags("", os.Args[2])
	if err != nil { panic(err) }
	kube := kubernetes.NewForConfigOrDie(rc)
	var mu sync.Mutex
	seen := map[string]time.Time{}
	f := informers.NewSharedInformerFactory(kube, 0)
	f.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, o any) {
			p := o.(*corev1.Pod)
			for _, c := range p.Status.ContainerStatuses {
				if c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" {
					mu.Lock(); seen[p.Name+p.ResourceVersion] = time.Now(); mu.Unlock()
				}
			}
		},
	})
	f.Start(context.Background().Done())
	nc.Subscribe("selfheal.v1.*.failures.>", func(m *nats.Msg) {
		var e struct { Type string; Data struct {
			Reason, Description string; Occurrence int
			Target, Owner struct{ Kind, Name string; Resource_version string }
			Metadata map[string]string; First_seen time.Time } }
		json.Unmarshal(m.Data, &e)
		now := time.Now()
		mu.Lock()
		at, ok := seen[e.Data.Target.Name+e.Data.Target.Resource_version]
		mu.Unlock()
		lat := "-"
		if ok { lat = now.Sub(at).String() }
		fmt.Println(now.Format("15:04:05.000"), e.Type, e.Data.Target.Kind, e.Data.Target.Name, "<-", e.Data.Owner.Kind, e.Data.Owner.Name, "#", e.Data.Occurrence, e.Data.Description, e.Data.Metadata, "since reference saw it:", lat)
	})
	select {}
}
