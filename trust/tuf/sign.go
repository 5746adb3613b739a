package tuf

import (
	"crypto"
	"encoding/json"
	"fmt"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Sign adds a signature to a root or targets document. It needs no folder: it
// is for the place where an offline key is. What is signed is the document as
// it is; whoever calls it shows the holder what that says.
func Sign(document []byte, signer crypto.Signer) ([]byte, error) {
	key, err := hold(signer)
	if err != nil {
		return nil, err
	}
	role, err := roleOf(document)
	if err != nil {
		return nil, err
	}
	if role == Root {
		return signDocument(document, key, parseRoot)
	}
	return signDocument(document, key, parseTargets)
}

func signDocument[T metadata.Roles](raw []byte, key held, parse func([]byte) (*metadata.Metadata[T], error)) ([]byte, error) {
	doc, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if err := attach(doc, key); err != nil {
		return nil, err
	}
	return marshal(doc)
}

// roleOf reads which of the two documents that people sign this is.
func roleOf(raw []byte) (Role, error) {
	if len(raw) > limits.TUFDocument {
		return "", fmt.Errorf("%w: larger than %d bytes", ErrDocument, limits.TUFDocument)
	}
	if err := strictjson.Check(raw); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDocument, err)
	}
	var doc struct {
		Signed struct {
			Type Role `json:"_type"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDocument, err)
	}
	if doc.Signed.Type != Root && doc.Signed.Type != Targets {
		return "", fmt.Errorf("%w: people sign root and targets only", ErrRole)
	}
	return doc.Signed.Type, nil
}
