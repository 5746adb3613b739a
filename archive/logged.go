package archive

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha256" // hashes that logs know
	_ "crypto/sha512"
	"encoding/hex"
	"strings"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/notary"
)

// relatePage is how many items are read at once: each may be limits.Bundle
// large.
const relatePage = 16

// logged are the digests under which a log names what the item's signature is
// over. Which of them depends on the key, so all that a log knows are there. An
// item whose signed bytes do not speak of its digest has none: the archive
// keeps it, but no entry of the log is found by it.
func (i Item) logged() []string {
	if i.Format == FormatBundle {
		// The log names the artifact itself: no document is signed.
		if bundle, err := attest.ParseBundle(i.Bundle); err == nil && bundle.Message != nil {
			if !bytes.Equal(bundle.Message.Digest, i.Digest.Bytes()) {
				return nil
			}
			return []string{i.Digest.String()}
		}
	}
	signed, payload := i.signed()
	if signed == nil {
		return nil
	}
	names := []string{digestName(crypto.SHA256, signed), digestName(crypto.SHA384, signed), digestName(crypto.SHA512, signed)}
	if payload != nil {
		names = append(names, digestName(crypto.SHA256, payload))
	}
	return names
}

func digestName(algorithm crypto.Hash, message []byte) string {
	h := algorithm.New()
	h.Write(message)
	return strings.ReplaceAll(strings.ToLower(algorithm.String()), "-", "") + ":" + hex.EncodeToString(h.Sum(nil))
}

// signed is the bytes that the item's signature is over, if they speak of its
// digest, and the payload in them where it is an envelope: the entry of an
// envelope in Rekor v1's form has the payload's digest instead.
func (i Item) signed() (message, payload []byte) {
	switch i.Format {
	case FormatBundle:
		bundle, err := attest.ParseBundle(i.Bundle)
		if err != nil {
			return nil, nil
		}
		return i.envelope(bundle.Envelope)
	case FormatLegacyAttestation:
		envelope, err := attest.ParseEnvelope(i.Legacy.Payload)
		if err != nil {
			return nil, nil
		}
		return i.envelope(envelope)
	}
	if i.Format == FormatNotation {
		envelope, err := notary.Parse(i.Notation.MediaType, i.Notation.Envelope)
		if err != nil || envelope.Target.Digest != i.Digest {
			return nil, nil
		}
		return envelope.Message, nil
	}
	simple, err := attest.ParseSimpleSigning(i.Legacy.Payload)
	if err != nil || simple.Digest != i.Digest {
		return nil, nil
	}
	return i.Legacy.Payload, nil
}

func (i Item) envelope(e attest.Envelope) (message, payload []byte) {
	statement, err := attest.ParseStatement(e.Payload)
	if err != nil {
		return nil, nil
	}
	for _, subject := range statement.Subjects {
		if subject.Digest["sha256"] == i.Digest.Hex() {
			return attest.PAE(e.PayloadType, e.Payload), e.Payload
		}
	}
	return nil, nil
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
			item, err := ParseItem(row)
			if err != nil {
				continue // nobody else can read it either
			}
			if err := a.bundles.Relate(ctx, row.Digest, item.logged()); err != nil {
				return err
			}
		}
	}
}
