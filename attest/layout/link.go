package layout

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/secure-systems-lab/go-securesystemslib/cjson"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

var errLink = errors.New("not a link")

// link is what somebody says of one run of a step. Names are plain paths.
type link struct {
	name                string
	materials, products map[string]in_toto.HashObj
}

// candidate is a link with the signatures over it, none checked yet.
type candidate struct {
	link       link
	message    []byte
	signatures []attest.EnvelopeSignature
}

type wireMetablock struct {
	Signed     json.RawMessage `json:"signed"`
	Signatures []struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
		// Cert is read and not used: functionaries are named by keys here.
		Cert string `json:"cert"`
	} `json:"signatures"`
}

type wireLink struct {
	Type        string                     `json:"_type"`
	Name        string                     `json:"name"`
	Materials   map[string]in_toto.HashObj `json:"materials"`
	Products    map[string]in_toto.HashObj `json:"products"`
	Byproducts  json.RawMessage            `json:"byproducts"`
	Command     []string                   `json:"command"`
	Environment json.RawMessage            `json:"environment"`
}

type wireLinkV03 struct {
	Name      string `json:"name"`
	Materials []struct {
		Name   string          `json:"name"`
		Digest in_toto.HashObj `json:"digest"`
	} `json:"materials"`
}

// parseCandidate reads a link in any of the forms of the package.
func parseCandidate(raw []byte) (candidate, error) {
	if len(raw) > limits.Bundle {
		return candidate{}, errLink
	}
	envelope, err := attest.ParseEnvelope(raw)
	if err != nil {
		return parseMetablock(raw)
	}
	if envelope.PayloadType != attest.PayloadTypeInToto {
		return candidate{}, errLink
	}
	c := candidate{message: attest.PAE(envelope.PayloadType, envelope.Payload), signatures: envelope.Signatures}
	if c.link, err = parsePayload(envelope.Payload); err != nil {
		return candidate{}, err
	}
	return c, nil
}

// parseMetablock reads a link whose signatures are over its canonical JSON, in
// hexadecimal.
func parseMetablock(raw []byte) (candidate, error) {
	var w wireMetablock
	if err := strictjson.Unmarshal(raw, &w); err != nil || len(w.Signed) == 0 || len(w.Signatures) > limits.EnvelopeSignatures {
		return candidate{}, errLink
	}
	message, err := cjson.EncodeCanonical(w.Signed)
	if err != nil {
		return candidate{}, errLink
	}
	c := candidate{message: message}
	for _, s := range w.Signatures {
		signature, err := hex.DecodeString(s.Sig)
		if err != nil {
			return candidate{}, errLink
		}
		c.signatures = append(c.signatures, attest.EnvelopeSignature{KeyID: s.KeyID, Signature: signature})
	}
	if c.link, err = parseLink(w.Signed, true); err != nil {
		return candidate{}, err
	}
	return c, nil
}

func parsePayload(payload []byte) (link, error) {
	if statement, err := attest.ParseStatement(payload); err == nil {
		return parseStatement(statement)
	}
	return parseLink(payload, true)
}

func parseStatement(s attest.Statement) (link, error) {
	switch s.PredicateType {
	case predicate.CosignLink:
		return parseLink(s.Predicate, false)
	case predicate.LinkV03:
		return parseLinkV03(s)
	}
	return link{}, errLink
}

func parseLink(raw []byte, typed bool) (link, error) {
	var w wireLink
	if err := strictjson.UnmarshalOpen(raw, &w); err != nil {
		return link{}, errLink
	}
	if w.Type != "link" && (typed || w.Type != "") {
		return link{}, errLink
	}
	return newLink(w.Name, w.Materials, w.Products)
}

// parseLinkV03 reads a link whose products are the statement's subjects, as its
// specification converts it (spec/predicates/link.md, "Converting to old-style
// links").
func parseLinkV03(s attest.Statement) (link, error) {
	var w wireLinkV03
	if err := strictjson.UnmarshalOpen(s.Predicate, &w); err != nil {
		return link{}, errLink
	}
	materials := make(map[string]in_toto.HashObj, len(w.Materials))
	for _, m := range w.Materials {
		if _, twice := materials[m.Name]; twice || m.Name == "" {
			return link{}, fmt.Errorf("%w: a material has no name of its own", errLink)
		}
		materials[m.Name] = m.Digest
	}
	products := make(map[string]in_toto.HashObj, len(s.Subjects))
	for _, p := range s.Subjects {
		if _, twice := products[p.Name]; twice || p.Name == "" {
			return link{}, fmt.Errorf("%w: a subject has no name of its own", errLink)
		}
		products[p.Name] = p.Digest
	}
	return newLink(w.Name, materials, products)
}

func newLink(name string, materials, products map[string]in_toto.HashObj) (link, error) {
	l := link{name: name}
	if name == "" || len(materials)+len(products) > limits.LayoutArtifacts {
		return link{}, fmt.Errorf("%w: no name, or more than %d artifacts", errLink, limits.LayoutArtifacts)
	}
	var err error
	if l.materials, err = artifacts(materials); err != nil {
		return link{}, err
	}
	if l.products, err = artifacts(products); err != nil {
		return link{}, err
	}
	return l, nil
}

// artifacts are a link's artifacts by their plain paths, as rules are applied
// to them. Two names of one path are refused: rules would see either.
func artifacts(in map[string]in_toto.HashObj) (map[string]in_toto.HashObj, error) {
	out := make(map[string]in_toto.HashObj, len(in))
	for name, digests := range in {
		clean := path.Clean(name)
		if _, twice := out[clean]; twice || name == "" {
			return nil, fmt.Errorf("%w: two artifacts have one path", errLink)
		}
		if !areDigests(digests) {
			return nil, fmt.Errorf("%w: an artifact has no digest by SHA-256 or SHA-512, or one that is not lower-case hexadecimal", errLink)
		}
		out[clean] = digests
	}
	return out, nil
}

func areDigests(digests in_toto.HashObj) bool {
	for algorithm, value := range digests {
		raw, err := hex.DecodeString(value)
		want := map[string]int{"sha256": 32, "sha512": 64}[algorithm]
		if err != nil || strings.ToLower(value) != value || len(raw) == 0 || want != 0 && len(raw) != want {
			return false
		}
	}
	return len(digests) <= limits.SubjectDigests && (digests["sha256"] != "" || digests["sha512"] != "")
}
