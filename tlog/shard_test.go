package tlog_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/tlog"
)

// The origin of a shard is a host name, which stock verifiers find in its URL,
// and never that of another shard or of another key.
func TestShardOrigins(t *testing.T) {
	key, other := keysOfEveryType(t)["ecdsa-p256"].Public(), keysOfEveryType(t)["ecdsa-p256"].Public()
	seen := map[string]bool{}
	for _, host := range []string{"log.example.com", "localhost", "127.0.0.1"} {
		first, err := tlog.ShardOrigin(host, 1, key)
		if err != nil || first != host {
			t.Errorf("%s: the first shard's is %q, %v", host, first, err)
		}
		for number := 2; number < 4; number++ {
			for _, pub := range []any{key, other} {
				origin, err := tlog.ShardOrigin(host, number, pub)
				if err != nil || seen[origin] {
					t.Fatalf("%q again, or %v", origin, err)
				}
				seen[origin] = true
				u, err := url.Parse("https://" + origin + ":8181/shards/2")
				if err != nil || u.Hostname() != origin {
					t.Errorf("%q is not the host of %v, %v", origin, u, err)
				}
				if last := origin[strings.LastIndex(origin, ".")+1:]; strings.Trim(last, "0123456789") == "" {
					t.Errorf("%q ends in a number", origin)
				}
			}
		}
	}
	if _, err := tlog.ShardOrigin("a/b", 2, key); !errors.Is(err, tlog.ErrOrigin) {
		t.Errorf("no host name: %v", err)
	}
	if _, err := tlog.ShardOrigin("log.example.com", 2, keysOfEveryType(t)["ed25519"].Public()); !errors.Is(err, tlog.ErrLogKey) {
		t.Errorf("a key that shards do not have: %v", err)
	}
}
