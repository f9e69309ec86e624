package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/selfheal/selfheal/services/watcher/internal/stream"
)

const (
	versionEvery = time.Hour // an upgrade of the cluster is no matter of minutes
	versionRetry = 5 * time.Minute
	maxVersion   = 16 << 10
)

// followVersion keeps what version the API server is of. Whoever may log in
// may ask for it; where even that is refused, nodes are compared with each other.
func (w *Watcher) followVersion(ctx context.Context) {
	if w.sources[nodes.key()] == nil {
		return // nothing is compared with it
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		v, err := w.server.version(ctx)
		if err != nil {
			w.log.Debug("the API server's version cannot be read; trying again", "err", err)
			timer.Reset(versionRetry)
			continue
		}
		w.mu.Lock()
		w.serverVersion = clip(v)
		w.mu.Unlock()
		timer.Reset(versionEvery)
	}
}

// version asks the API server for its version, such as v1.36.3.
func (s server) version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	resp, err := stream.Get(ctx, s.client, s.base.JoinPath("version"), stream.JSON)
	if err != nil {
		return "", fmt.Errorf("get version: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var info struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxVersion)).Decode(&info); err != nil {
		return "", fmt.Errorf("get version: %w", err)
	}
	return info.GitVersion, nil
}

// newestKubelet is the highest version of the nodes' kubelets. Nearly all are
// the same, which costs a comparison of strings.
func newestKubelet(known map[string]*nodeHistory) string {
	newest, text := (*version.Version)(nil), ""
	for _, h := range known {
		if h.kubelet == text || h.kubelet == "" {
			continue
		}
		if v, err := version.ParseGeneric(h.kubelet); err == nil && (newest == nil || newest.LessThan(v)) {
			newest, text = v, h.kubelet
		}
	}
	return text
}
