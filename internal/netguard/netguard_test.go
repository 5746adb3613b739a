package netguard_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/countersign/countersign/internal/netguard"
)

func TestCheck(t *testing.T) {
	for address, allowed := range map[string]struct{ public, consented bool }{
		"8.8.8.8": {true, true}, "2606:4700::1111": {true, true}, "64:ff9b::808:808": {true, true},
		"127.0.0.1": {false, true}, "10.0.0.1": {false, true}, "172.31.255.255": {false, true}, "192.168.1.1": {false, true},
		"100.64.0.1": {false, true}, "::1": {false, true}, "fc00::1": {false, true}, "::ffff:127.0.0.1": {false, true},
		"64:ff9b::a00:1": {false, true}, "::127.0.0.1": {false, true}, "2002:7f00:1::": {false, true},
		"169.254.169.254": {}, "::ffff:169.254.169.254": {}, "64:ff9b::a9fe:a9fe": {}, "100.100.100.200": {}, "fd00:ec2::254": {},
		"fe80::1%eth0": {}, "0.0.0.0": {}, "::": {}, "224.0.0.1": {}, "255.255.255.255": {}, "ff02::1": {},
	} {
		a := netip.MustParseAddr(address)
		for consent, want := range map[bool]bool{false: allowed.public, true: allowed.consented} {
			if err := netguard.Check(a, consent); (err == nil) != want || err != nil && !errors.Is(err, netguard.ErrRefused) {
				t.Errorf("%s, consent %t: %v", address, consent, err)
			}
		}
	}
	if err := netguard.Check(netip.Addr{}, true); !errors.Is(err, netguard.ErrRefused) {
		t.Errorf("no address: %v", err)
	}
}

// TestDialsWhatWasJudged: of a name's addresses the refused ones are passed
// over, and the name is resolved once.
func TestDialsWhatWasJudged(t *testing.T) {
	var dialled []string
	lookups := 0
	n := netguard.Network{
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			lookups++
			return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:8.8.8.8")}, nil
		},
		Connect: func(_ context.Context, addr netip.AddrPort) (net.Conn, error) {
			dialled = append(dialled, addr.String())
			return nil, net.ErrClosed
		},
	}
	if _, err := n.Dial(false)(t.Context(), "tcp", "registry.example:443"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if lookups != 1 || len(dialled) != 1 || dialled[0] != "8.8.8.8:443" {
		t.Errorf("%d lookups, dialled %v", lookups, dialled)
	}
	n.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, nil }
	if _, err := n.Dial(true)(t.Context(), "tcp", "registry.example:443"); !errors.Is(err, netguard.ErrNoAddress) {
		t.Errorf("%v", err)
	}
}
