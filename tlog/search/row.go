package search

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
)

// row is what an entry is about. One that this program does not understand, an
// entry of a newer one for instance, is found by its place only.
func row(body []byte, seen time.Time) store.LogEntry {
	out := store.LogEntry{LeafHash: tlog.LeafHash(body), Time: seen}
	parsed, err := tlog.ParseBody(body)
	if err != nil {
		out.Kind = "unknown"
		return out
	}
	out.Kind, out.Version = parsed.Kind, parsed.Version
	out.Digest = DigestName(parsed.DigestAlgorithm, parsed.Digest)
	if spki, err := x509.MarshalPKIXPublicKey(parsed.PublicKey); err == nil {
		sum := sha256.Sum256(spki)
		out.KeyID = hex.EncodeToString(sum[:])
	}
	if cert := parsed.Certificate; cert != nil {
		out.Time, out.Certified = cert.NotBefore.UTC(), true
		if holder, err := identity.ParseHolder(cert); err == nil && named(holder.Issuer) && named(holder.Subject) {
			out.Issuer, out.Subject = holder.Issuer, holder.Subject
		}
	}
	return out
}

// named refuses what a database cannot hold: whoever writes to the log chooses
// the certificate, and one row must not stop the follower.
func named(text string) bool {
	return len(text) <= limits.CertificateName && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

// DigestName is a digest as the index has it: algorithm:hexadecimal.
func DigestName(algorithm crypto.Hash, digest []byte) string {
	return strings.ReplaceAll(strings.ToLower(algorithm.String()), "-", "") + ":" + hex.EncodeToString(digest)
}
