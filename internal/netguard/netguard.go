// Package netguard decides which addresses the service may connect to when
// somebody else named the host: a registry, an issuer. The address that was
// judged is the one that is dialled, so a name that resolves differently the
// second time gains nothing.
//
// It refuses metadata, link-local, multicast and unspecified addresses always,
// and private ones unless the operator consented for that host. It knows
// nothing of HTTP: who may be asked, and with which credentials, is the
// caller's business.
package netguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/countersign/countersign/internal/limits"
)

// Errors of Check and Dial.
var (
	// ErrRefused: the address must not be contacted.
	ErrRefused = errors.New("address refused")
	// ErrNoAddress: the name has no address at all.
	ErrNoAddress = errors.New("the name has no address")
)

// Network is how names become connections; tests replace its functions to give
// public addresses to servers on loopback.
type Network struct {
	// Lookup returns the addresses of a name.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Connect opens a TCP connection to an address that passed Check.
	Connect func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
}

// System is the machine's network.
func System() Network {
	dialer := &net.Dialer{Timeout: limits.DialTimeout}
	return Network{
		Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		Connect: func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr.String())
		},
	}
}

// Dial makes a DialContext for net/http. It resolves the name and connects to
// the first address that may be contacted and answers.
func (n Network) Dial(allowPrivate bool) func(ctx context.Context, _, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		portNumber, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, err
		}
		addrs, err := n.Lookup(ctx, host)
		if err != nil {
			return nil, err
		}
		return n.connectAny(ctx, addrs, uint16(portNumber), allowPrivate)
	}
}

func (n Network) connectAny(ctx context.Context, addrs []netip.Addr, port uint16, allowPrivate bool) (net.Conn, error) {
	err := ErrNoAddress
	for _, a := range addrs {
		if refused := Check(a, allowPrivate); refused != nil {
			err = refused
			continue
		}
		var conn net.Conn
		if conn, err = n.Connect(ctx, netip.AddrPortFrom(a.Unmap(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// Prefixes of the IANA special-purpose registries. What embeds an IPv4 address
// is listed whole, as where it leads is not ours to know, but for nat64.
var (
	// nat64 is how the whole of IPv4 looks in a network that has only IPv6.
	nat64 = netip.MustParsePrefix("64:ff9b::/96") //nolint:gochecknoglobals // constant
	// neverPrefixes are refused even where private addresses are allowed:
	// metadata services live there and nothing we ask does.
	neverPrefixes = prefixes( //nolint:gochecknoglobals // constant table
		"0.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32", "224.0.0.0/3",
		"fd00:ec2::254/128", "fe80::/10", "ff00::/8", "::/128",
	)
	// privatePrefixes need the operator's consent.
	privatePrefixes = prefixes( //nolint:gochecknoglobals // constant table
		"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"::1/128", "::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32",
		"2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fec0::/10",
	)
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// Check says why an address must not be contacted (ErrRefused), or nil.
func Check(a netip.Addr, allowPrivate bool) error {
	a = a.WithZone("").Unmap() // ::ffff:127.0.0.1 is 127.0.0.1
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case !a.IsValid() || within(a, neverPrefixes):
		return fmt.Errorf("%w: link-local, metadata, multicast or unspecified", ErrRefused)
	case !allowPrivate && within(a, privatePrefixes):
		return fmt.Errorf("%w: private, and allowPrivateAddress is not set", ErrRefused)
	}
	return nil
}

func within(a netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
