package policy

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy/condition"
	"github.com/countersign/countersign/policy/slsa"
)

// Kind says what a fact is of. Signatures and attestations never take each
// other's place.
type Kind int

// The kinds.
const (
	// KindSignature is a plain signature of an image.
	KindSignature Kind = iota
	// KindAttestation is a statement with a predicate.
	KindAttestation
	// KindUnknown is of something that could not be read as either. Such a fact
	// is never accepted; its reason is shown for both.
	KindUnknown
)

// Fact is what the verifier established of one bundle under one authority of
// one policy: either Evidence or a Reason why it does not count.
type Fact struct {
	Kind Kind
	// Authority is the policy's name of the authority it was judged under.
	Authority string
	// SignerID is the same for two signatures by the same public key or
	// identity whatever authority name, key name or encoding they came under;
	// thresholds count it once.
	SignerID string
	// Accepted reports whether the signature is valid, bound to the image and
	// in time under this authority. Only then is Evidence set.
	Accepted bool
	Evidence Evidence
	// Reason is why it was not accepted.
	Reason Reason
	// PredicateType is what the statement says, verified only if Accepted.
	PredicateType string
	// Attestation is the verified statement of an accepted attestation.
	Attestation *Attestation
	// SignatureID is the same for copies of one signature, whatever proofs
	// they came with.
	SignatureID string
	// ProvenAt is the earliest proven time of the signature, zero if there is
	// none.
	ProvenAt time.Time
	// Expires is when time alone ends what was established, zero if it does
	// not.
	Expires time.Time
	// Claims are the verified extensions of the signer's certificate, nil when
	// a key signed.
	Claims map[string]string
}

// Image is the image that is asked about.
type Image struct {
	// Registry is the host, Repository the path below it.
	Registry   string
	Repository string
	Digest     string
}

// Name is HOST/REPOSITORY.
func (i Image) Name() string { return i.Registry + "/" + i.Repository }

// Question is all that a decision rests on.
type Question struct {
	Facts []Fact
	// Links are the envelopes of links of in-toto layouts that were found, none
	// verified: a layout knows its keys.
	Links [][]byte
	Image Image
	// Context is what the caller said of the place.
	Context map[string]string
	// Now is the time at which the decision must hold.
	Now time.Time
	// Unread, if it has a code, says that not everything about the image could
	// be read. Requirements that hold only when nothing else was said then
	// fail with it.
	Unread Reason
}

// Attestation is a verified statement as requirements look at it. What was read
// of it once is kept, for all policies of a question. It is safe for concurrent
// use.
type Attestation struct {
	predicateType string
	raw           []byte
	predicate     *condition.Document
	statement     *condition.Document

	provenance func() (slsa.Provenance, error)
	summary    func() (slsa.Summary, error)
	stated     func() time.Time
}

// NewAttestation is a statement and its predicate, both as the signed bytes have
// them and not to be changed.
func NewAttestation(predicateType string, statement, raw []byte) *Attestation {
	a := &Attestation{
		predicateType: predicate.Canonical(predicateType), raw: raw,
		predicate: condition.NewDocument(raw), statement: condition.NewDocument(statement),
	}
	a.provenance = sync.OnceValues(func() (slsa.Provenance, error) { return slsa.ReadProvenance(a.predicateType, raw) })
	a.summary = sync.OnceValues(func() (slsa.Summary, error) { return slsa.ReadSummary(raw) })
	a.stated = sync.OnceValue(func() time.Time { return statedTime(a.predicateType, a.predicate) })
	return a
}

// wellFormed says why the predicate is none, or nothing. What a predicate of its
// type must hold to be signed here is not asked: others sign other documents,
// and what matters of them is for expectations and conditions to say.
func (a *Attestation) wellFormed() (problem string) {
	switch {
	case len(a.raw) > limits.Predicate:
		return fmt.Sprintf("it has more than %d bytes", limits.Predicate)
	case !bytes.HasPrefix(bytes.TrimLeft(a.raw, " \t\r\n"), []byte("{")):
		return "it is not a JSON object"
	}
	return ""
}

// statedTime is when the signer says that what the predicate reports was so,
// for types that say it; else zero. Bills of materials are left out: their date
// is often that of the source.
func statedTime(predicateType string, d *condition.Document) time.Time {
	for _, path := range statedPaths(predicateType) {
		if text, ok := d.Text(path...); ok {
			if at, err := time.Parse(time.RFC3339, text); err == nil {
				return at
			}
		}
	}
	return time.Time{}
}

func statedPaths(predicateType string) [][]string {
	switch predicateType {
	case predicate.CosignVuln, predicate.VulnsV01, predicate.VulnsV02:
		return [][]string{{"metadata", "scanFinishedOn"}}
	case predicate.SLSAProvenanceV1:
		return [][]string{{"runDetails", "metadata", "finishedOn"}}
	case predicate.SLSAProvenanceV02:
		return [][]string{{"metadata", "buildFinishedOn"}}
	case predicate.VSAV1:
		return [][]string{{"timeVerified"}}
	case predicate.OpenVEX, predicate.OpenVEXV02:
		return [][]string{{"last_updated"}, {"timestamp"}}
	case predicate.SVRV01, predicate.SVRV02:
		return [][]string{{"timeCreated"}}
	case predicate.CosignCustom:
		return [][]string{{"Timestamp"}}
	}
	return nil
}
