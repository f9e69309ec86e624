package analyzer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// policyEvery is between two looks at the policy file. Kubernetes itself needs
// up to a minute to bring a ConfigMap to the node.
const policyEvery = 2 * time.Second

func loadPolicy(file string) (policy.Policy, error) {
	if file == "" {
		return policy.Builtin()
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return policy.Policy{}, fmt.Errorf("policy_file: %w", err)
	}
	return parsePolicy(file, data)
}

func parsePolicy(file string, data []byte) (policy.Policy, error) {
	p, err := policy.Parse(data)
	if err != nil {
		return policy.Policy{}, fmt.Errorf("policy_file %s: %w", file, err)
	}
	return p, nil
}

// watchPolicy judges by what the policy file says now, and by what it said
// before while that cannot be used. Contents are compared rather than times: a
// ConfigMap changes by the swap of a symbolic link.
func (a *analyzer) watchPolicy(ctx context.Context, file string) {
	if file == "" {
		return
	}
	known, err := os.ReadFile(file)
	if err != nil {
		known = nil // it is gone since it was loaded, or comes back as it was
	}
	last := known
	tick := time.NewTicker(policyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		data, err := os.ReadFile(file)
		if err != nil {
			data = nil
		}
		settled := bytes.Equal(data, last) // not half of a change
		last = data
		if bytes.Equal(data, known) || !settled {
			continue
		}
		known = data
		a.takePolicy(file, data, err)
	}
}

// takePolicy puts a new policy in force, unless it cannot be used.
func (a *analyzer) takePolicy(file string, data []byte, err error) {
	var p policy.Policy
	if err == nil {
		p, err = parsePolicy(file, data)
	}
	a.reloaded(err == nil)
	before := a.judge()
	if err != nil {
		a.log.Error("policy cannot be used, the one before is kept", "err", err, "kept", before.policy.Ref("").Revision)
		return
	}
	next := before
	next.policy = p
	a.judging.Store(&next)
	a.log.Info("policy loaded", "policy", p.Ref("").Name, "revision", p.Ref("").Revision, "before", before.policy.Ref("").Revision)
}
