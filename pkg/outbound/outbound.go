// Package outbound bounds where a process connects on the word of a setting,
// and signs what it sends there.
//
// What is set is where to send to; what a name means is decided by others, and
// can change. So an address is judged for each connection, after the lookup.
package outbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// A Reach is the addresses that a host may resolve to.
type Reach int

const (
	// Anywhere is for a host that the operator chose: also inside the cluster,
	// but not this pod itself nor the machine's metadata service.
	Anywhere Reach = iota
	// Public is for a host on the Internet.
	Public
)

var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	carrier = netip.MustParsePrefix("100.64.0.0/10")
	// Metadata services that do not live on a link-local address.
	metadata = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16")}
)

// Control refuses a connection to an address out of reach. It is a
// net.Dialer's Control.
func (r Reach) Control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s is not an address", address)
	}
	ip := ap.Addr().Unmap().WithZone("")
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case !ip.IsGlobalUnicast(), slices.Contains(metadata, ip):
		return fmt.Errorf("%s is not an address that messages may go to", ip)
	case r == Public && (ip.IsPrivate() || carrier.Contains(ip)):
		return fmt.Errorf("%s is not a public address", ip)
	}
	return nil
}

// OnlyLoopback is the Control of what stays on this machine.
func OnlyLoopback(_, address string, _ syscall.RawConn) error {
	if ap, err := netip.ParseAddrPort(address); err != nil || !ap.Addr().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", address)
	}
	return nil
}

// Loopback reports whether host is this machine by its own name.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Dialer connects to host within r. A loopback host may be connected to only on
// this machine, and is the only one that may.
func Dialer(host string, r Reach, timeout time.Duration) *net.Dialer {
	d := &net.Dialer{Timeout: timeout, Control: r.Control}
	if Loopback(host) {
		d.Control = OnlyLoopback
	}
	return d
}

// Transport is for what is rarely sent to host: each request has a fresh
// connection, which is never one that a firewall has forgotten, and no proxy of
// the environment. It follows no redirects, and its errors know no URL, which
// may be a secret.
func Transport(host string, r Reach, timeout time.Duration) *http.Transport {
	return &http.Transport{
		DialContext:         Dialer(host, r, timeout).DialContext,
		TLSHandshakeTimeout: timeout,
		ForceAttemptHTTP2:   true,
		DisableKeepAlives:   true,
	}
}

// SignatureHeader is where a Signature goes.
const SignatureHeader = "Selfheal-Signature"

// LeastSecret is how many bytes of a secret cannot be guessed by trying: half
// of what HMAC-SHA256 asks for (RFC 2104, 3).
const LeastSecret = 16

// Signature proves to who knows the secret that text is ours and was sent at t.
// The time is signed too, so that one who overheard it cannot send it again
// later. v1 leaves room for another way of signing beside it.
func Signature(secret string, t time.Time, text []byte) string {
	sent := strconv.FormatInt(t.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(sent + "."))
	mac.Write(text)
	return "t=" + sent + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
