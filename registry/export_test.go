package registry

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// NewOn makes a client on a network of the test's: lookup gives a name its
// addresses, connect opens the connection to one that was not refused. Nil
// functions are the system's. timeout bounds one request.
func NewOn(
	config Config, timeout time.Duration,
	lookup func(ctx context.Context, host string) ([]netip.Addr, error),
	connect func(ctx context.Context, addr netip.AddrPort) (net.Conn, error),
) *Client {
	n := systemNetwork()
	if lookup != nil {
		n.Lookup = lookup
	}
	if connect != nil {
		n.Connect = connect
	}
	return newClient(config, n, timeout)
}

// TrustElsewhere makes the client trust an authority for redirected blobs, as
// if it were public, under the name its certificates carry.
func TrustElsewhere(c *Client, caBundle, name string) {
	t := c.network.transport(false, caBundle)
	t.TLSClientConfig.ServerName = name
	c.foreign.Transport = t
}
