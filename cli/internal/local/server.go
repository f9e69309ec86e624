package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	serverInterval = 5 * time.Second
	serverTimeout  = 5 * time.Second
)

// watchServer says when the API server begins or ceases to answer. The
// services find that out by themselves; this is for whoever looks on.
func watchServer(ctx context.Context, c *rest.Config, scr *screen.Screen, tick *time.Ticker) {
	defer tick.Stop()
	paint := scr.Paint()
	client, err := discovery.NewDiscoveryClientForConfig(c)
	if err != nil {
		scr.Println(paint.As(fmt.Sprintf("API server %s: %v", c.Host, err), screen.Bold, screen.Red))
		return
	}
	said := ""
	for {
		v, err := client.ServerVersion()
		if ctx.Err() != nil {
			return
		}
		state, text := serverState(c.Host, v, err)
		if state != said {
			said = state
			color := screen.Green
			if err != nil {
				color = screen.Red
			}
			const indent = 2 // of further lines only
			scr.Println(paint.As(screen.Wrap(text, scr.Width(), indent, -indent), screen.Bold, color))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// serverState is what there is to say about an answer of the API server. The
// state tells whether it has been said already.
func serverState(host string, v *version.Info, err error) (state, text string) {
	if err == nil {
		return "up", fmt.Sprintf("API server %s answers: Kubernetes %s", host, v.GitVersion)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the URL is known
	}
	text = fmt.Sprintf("API server %s cannot be used: %s; trying again until it can", host, heal.Clean(err.Error(), heal.MaxText))
	return text, text
}

// listenAddresses returns n free addresses on the loopback interface from port
// first on, and which of the wanted ports were taken. A port may still be
// taken by somebody else before the service listens, which then says so.
func listenAddresses(ctx context.Context, first, n int) (addresses []string, moved []int, err error) {
	var held []net.Listener // so that no address is found twice
	defer func() {
		for _, l := range held {
			err = errors.Join(err, l.Close())
		}
	}()
	for i := range n {
		port := first
		if first != 0 {
			port += i
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil && port != 0 {
			moved = append(moved, port)
			l, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("HTTP: no free port: %w", err)
		}
		held = append(held, l)
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, moved, nil
}
