package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/countersign/countersign/internal/limits"
)

// Errors of Import and Export.
var (
	// ErrDocument: the document cannot be read as one of its kind. No report can
	// be given of it.
	ErrDocument = errors.New("invalid document")
	// ErrKind: there is no such kind, or not in this direction.
	ErrKind = errors.New("unknown kind")
)

// Kind is whose policies a document holds.
type Kind string

// The kinds.
const (
	// ClusterImagePolicy is policy.sigstore.dev/v1alpha1 and v1beta1.
	ClusterImagePolicy Kind = "clusterimagepolicy"
	// TrustRoot is the object of that name beside it.
	TrustRoot Kind = "trustroot"
	// Notation is the Notary Project's trustpolicy.json, for images and blobs.
	Notation Kind = "notation"
	// PolicyJSON is containers-policy.json(5).
	PolicyJSON Kind = "policyjson"
	// Kyverno is a ClusterPolicy or Policy with verifyImages rules.
	Kyverno Kind = "kyverno"
	// Connaisseur is the values of its Helm chart.
	Connaisseur Kind = "connaisseur"
	// DCT is Docker Content Trust: daemon.json, an environment, or a listing of
	// the files below ~/.docker/trust.
	DCT Kind = "dct"
)

// ImportKinds are the kinds that Import reads.
func ImportKinds() []Kind {
	return []Kind{ClusterImagePolicy, TrustRoot, Notation, PolicyJSON, Kyverno, Connaisseur, DCT}
}

// ExportKinds are the kinds that Export writes.
func ExportKinds() []Kind { return []Kind{ClusterImagePolicy, Notation, PolicyJSON} }

// Outcome is what became of a field.
type Outcome string

// The outcomes.
const (
	// Exact: it says the same here, or says nothing of what is admitted.
	Exact Outcome = "exact"
	// Narrowed: what came of it admits less.
	Narrowed Outcome = "narrowed"
	// Refused: it is not expressed, and what it restricts is not produced.
	Refused Outcome = "refused"
)

// Line is what became of one field.
type Line struct {
	// Source is the RFC 6901 pointer of the field; of a text of lines, `/0` is
	// the first. With several documents the number of the document stands in
	// front: `[2]/spec/mode`.
	Source  string  `json:"source"`
	Outcome Outcome `json:"outcome"`
	// Detail is what it became, or why not and what to do.
	Detail string `json:"detail"`
	// Accepted is set where the caller wants the policy in spite of the refusal
	// (Options).
	Accepted bool `json:"accepted,omitempty"`
}

// Document is a TrustPolicy in the form policy.Parse writes.
type Document struct {
	Name string          `json:"name"`
	JSON json.RawMessage `json:"document"`
}

// NamedRoot is a trusted_root.json and the name policies know it by.
type NamedRoot struct {
	Name string          `json:"name"`
	JSON json.RawMessage `json:"document"`
}

// Result is what an import gave.
type Result struct {
	Policies   []Document  `json:"policies"`
	TrustRoots []NamedRoot `json:"trustRoots"`
	Report     []Line      `json:"report"`
}

// HasRefused reports whether any line of a report is Refused and was not
// accepted.
func HasRefused(report []Line) bool {
	return slices.ContainsFunc(report, func(l Line) bool { return l.Outcome == Refused && !l.Accepted })
}

// Options are what an import cannot decide by itself.
type Options struct {
	// AnySignedNameUnsafe takes a signature of PolicyJSON whatever name of an
	// image it claims. Signatures are bound to digests here and not to names, so
	// without it every requirement of sigstoreSigned is refused.
	AnySignedNameUnsafe bool
}

// Import reads documents of a kind, each YAML (of one or more documents) or
// JSON, together: what they say of the same images is judged as a whole. Errors
// wrap ErrDocument or ErrKind; what can be read and not be converted is in the
// report.
func Import(kind Kind, documents [][]byte, options Options) (Result, error) {
	importers := map[Kind]func(*reader, []field){
		ClusterImagePolicy: clusterImagePolicies, TrustRoot: trustRoots, Notation: notationPolicies,
		PolicyJSON: containersPolicy, Kyverno: kyvernoPolicies, Connaisseur: connaisseurPolicy,
		DCT: contentTrust,
	}
	run, known := importers[kind]
	if !known {
		return Result{}, fmt.Errorf("%w: want one of %v", ErrKind, ImportKinds())
	}
	var trees []any
	for i, document := range documents {
		read := readTrees
		if kind == DCT {
			read = readTrust
		}
		found, err := read(document)
		if err != nil {
			return Result{}, fmt.Errorf("%w: %d: %w", ErrDocument, i+1, err)
		}
		if trees = append(trees, found...); len(trees) > limits.ForeignDocuments {
			return Result{}, fmt.Errorf("%w: more than %d documents", ErrDocument, limits.ForeignDocuments)
		}
	}
	if len(trees) == 0 {
		return Result{}, fmt.Errorf("%w: there is none", ErrDocument)
	}
	r := newReader(options)
	roots := make([]field, 0, len(trees))
	for i, tree := range trees {
		at := ""
		if len(trees) > 1 {
			at = fmt.Sprintf("[%d]", i+1)
		}
		roots = append(roots, r.root(at, tree))
	}
	run(r, roots)
	return r.result(roots), nil
}
