package archive

import (
	"context"
	"crypto"
	_ "crypto/sha256" // hashes that logs know
	_ "crypto/sha512"
	"encoding/hex"
	"strings"

	"github.com/countersign/countersign/attest"
)

// relatePage is how many items are read at once: each may be limits.Bundle
// large.
const relatePage = 16

// logged are the digests under which a log names what the item's signature is
// over. Which of them depends on the key, so all that a log knows are there. An
// item whose signed bytes do not speak of its digest has none: the archive
// keeps it, but no entry of the log is found by it.
func (i Item) logged() []string {
	signed, ok := i.signed()
	if !ok {
		return nil
	}
	var names []string
	for _, algorithm := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		h := algorithm.New()
		h.Write(signed)
		name := strings.ReplaceAll(strings.ToLower(algorithm.String()), "-", "")
		names = append(names, name+":"+hex.EncodeToString(h.Sum(nil)))
	}
	return names
}

// signed is the bytes that the item's signature is over, if they speak of its
// digest.
func (i Item) signed() (message []byte, ok bool) {
	switch i.Format {
	case FormatBundle:
		bundle, err := attest.ParseBundle(i.Bundle)
		if err != nil {
			return nil, false
		}
		return i.envelope(bundle.Envelope)
	case FormatLegacyAttestation:
		envelope, err := attest.ParseEnvelope(i.Legacy.Payload)
		if err != nil {
			return nil, false
		}
		return i.envelope(envelope)
	}
	payload, err := attest.ParseSimpleSigning(i.Legacy.Payload)
	return i.Legacy.Payload, err == nil && payload.Digest == i.Digest
}

func (i Item) envelope(e attest.Envelope) ([]byte, bool) {
	statement, err := attest.ParseStatement(e.Payload)
	if err != nil {
		return nil, false
	}
	for _, subject := range statement.Subjects {
		if subject.Digest["sha256"] == i.Digest.Hex() {
			return attest.PAE(e.PayloadType, e.Payload), true
		}
	}
	return nil, false
}

// Relate does again, for all that is kept, what Keep does to make the log's
// entries findable by their subjects. It may be repeated.
func (a *Archive) Relate(ctx context.Context) error {
	for after := ""; ; {
		rows, err := a.bundles.Each(ctx, after, relatePage)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			after = row.ID
			item, err := parseItem(row)
			if err != nil {
				continue // nobody else can read it either
			}
			if err := a.bundles.Relate(ctx, row.Digest, item.logged()); err != nil {
				return err
			}
		}
	}
}
