// reference is what the watcher is measured against, as a process of its own:
//
//	reference informer       client-go's shared informers of pods, nodes and deployments, as in most controllers
//	reference discard URI…   everything behind these requests, read and thrown away: the least that anybody can do
//
// Both take the cluster from $KUBECONFIG and write JSON lines. The informer
// goes on until its stdin is closed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS = -1
	config.ContentType = protobuf
	config.AcceptContentTypes = protobuf + ",application/json"
	ctx := context.Background()
	switch {
	case len(args) == 1 && args[0] == "informer":
		config.UserAgent = "reference-informer/1"
		return inform(ctx, config)
	case len(args) > 1 && args[0] == "discard":
		config.UserAgent = "reference-discard/1"
		return discard(ctx, config, args[1:])
	}
	return errors.New("want informer, or discard URI…")
}

const protobuf = "application/vnd.kubernetes.protobuf"

// A said is one line of output.
type said struct {
	Synced    bool   `json:"synced,omitempty"`    // everything has been read
	Objects   int    `json:"objects,omitempty"`   // that it holds then
	Bytes     int64  `json:"bytes,omitempty"`     // that it has read
	Unhealthy string `json:"unhealthy,omitempty"` // UID of a pod that is seen not to be well, each once
}

func say(s said) error { return json.NewEncoder(os.Stdout).Encode(s) }

// inform is the usual program: informers, their stores, and a handler.
func inform(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	all := []cache.SharedIndexInformer{pods, factory.Core().V1().Nodes().Informer(), factory.Apps().V1().Deployments().Informer()}
	unhealthy := map[string]bool{} // one goroutine calls the handlers
	look := func(obj any) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return
		}
		uid := string(pod.UID)
		switch was := unhealthy[uid]; {
		case well(pod):
			delete(unhealthy, uid)
		case !was:
			unhealthy[uid] = true
			_ = say(said{Unhealthy: uid}) // whoever started us has gone; our stdin tells
		}
	}
	handler, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, obj any) { look(obj) },
	})
	if err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	synced := []cache.InformerSynced{handler.HasSynced}
	for _, i := range all {
		synced = append(synced, i.HasSynced)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.New("never synced")
	}
	objects := 0
	for _, i := range all {
		objects += len(i.GetStore().ListKeys())
	}
	if err := say(said{Synced: true, Objects: objects}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func well(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// initialEventsEnd is in the bookmark behind the last object of a watch that
// begins with everything there is, and nowhere else.
var initialEventsEnd = []byte("k8s.io/initial-events-end")

// discard reads all at the same time, as the watcher does, on one connection.
func discard(ctx context.Context, config *rest.Config, uris []string) error {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	read := make([]int64, len(uris))
	errs := make([]error, len(uris))
	for i, uri := range uris {
		wg.Go(func() { read[i], errs[i] = drain(ctx, client, config.Host, uri) })
	}
	wg.Wait()
	var sum int64
	for _, n := range read {
		sum += n
	}
	return errors.Join(errors.Join(errs...), say(said{Synced: true, Bytes: sum}))
}

// drain reads the answer to one request: a list to its end, a watch to the
// end of what there is at first.
func drain(ctx context.Context, client *http.Client, host, uri string) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a watch
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, host+uri, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", protobuf+",application/json")
	req.Header.Set("User-Agent", "reference-discard/1")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", uri, resp.Status)
	}
	if !strings.Contains(uri, "sendInitialEvents=true") {
		n, err := io.Copy(io.Discard, resp.Body)
		return n, err
	}
	var total int64
	keep := len(initialEventsEnd) - 1 // the mark may be cut by the end of a read
	buf := make([]byte, keep+256<<10)
	held := 0
	for {
		n, err := resp.Body.Read(buf[held:])
		total += int64(n)
		if bytes.Contains(buf[:held+n], initialEventsEnd) {
			return total, nil
		}
		if err != nil {
			return total, fmt.Errorf("GET %s: %w before the end of what there is", uri, err)
		}
		tail := buf[max(0, held+n-keep) : held+n]
		held = copy(buf, tail)
	}
}
