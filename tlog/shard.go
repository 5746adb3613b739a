package tlog

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// ShardOrigin is the origin of a log's shard: the host's name for the first one,
// and for each later one a name below it that has the shard's number and the
// beginning of its log id, shard-2-1a2b3c4d.log.example.com. Witnesses know a log
// by its origin (C2SP tlog-witness) and see a log of its own in each shard; with
// the key in it, a shard that follows a restored backup is never taken for the one
// of that number which the lost service may have begun.
//
// It is a host name because stock verifiers compare a checkpoint's origin with the
// host name of the log's URL. Under an address, whose last part URL parsers take
// for a number, the dots become hyphens.
func ShardOrigin(host string, number int, pub crypto.PublicKey) (string, error) {
	if number == 1 {
		return host, CheckOrigin(host)
	}
	id, err := LogID(pub)
	if err != nil {
		return "", err
	}
	parent := host
	if _, err := netip.ParseAddr(host); err == nil {
		parent = strings.ReplaceAll(host, ".", "-")
	}
	origin := fmt.Sprintf("shard-%d-%s.%s", number, hex.EncodeToString(id[:4]), parent)
	return origin, CheckOrigin(origin)
}

// OriginLine is the origin that a checkpoint names, unverified: whoever uses it
// opens the checkpoint under it next.
func OriginLine(checkpoint []byte) string {
	line, _, _ := bytes.Cut(checkpoint, []byte("\n"))
	return string(line)
}
