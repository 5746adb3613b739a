package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/store"
)

// recordFormat is the only format written and read.
const recordFormat = 1

// document is the body of a stored object: a record and what makes it ours.
type document struct {
	Record json.RawMessage `json:"record"`
	MAC    []byte          `json:"mac"`
}

type record struct {
	Format    int             `json:"format"`
	Master    string          `json:"master"`
	Revision  int64           `json:"revision"`
	Name      string          `json:"name"`
	Algorithm Algorithm       `json:"algorithm"`
	Backend   string          `json:"backend"`
	Ref       string          `json:"ref,omitempty"`
	Purposes  []string        `json:"purposes"`
	Current   int             `json:"current"`
	CreatedAt time.Time       `json:"createdAt"`
	UpdatedAt time.Time       `json:"updatedAt"`
	Versions  []recordVersion `json:"versions"`
}

type recordVersion struct {
	Version       int        `json:"version"`
	KeyID         string     `json:"keyId"`
	Public        string     `json:"public"`
	State         State      `json:"state"`
	CreatedAt     time.Time  `json:"createdAt"`
	ActivatedAt   *time.Time `json:"activatedAt,omitempty"`
	SuspendedAt   *time.Time `json:"suspendedAt,omitempty"`
	DeactivatedAt *time.Time `json:"deactivatedAt,omitempty"`
	RevokedAt     *time.Time `json:"revokedAt,omitempty"`
	CompromisedAt *time.Time `json:"compromisedAt,omitempty"`
	RevokedReason string     `json:"revokedReason,omitempty"`
	DestroyedAt   *time.Time `json:"destroyedAt,omitempty"`
	// Ref names the key in another back end; absent in BackendFile.
	Ref string `json:"ref,omitempty"`
	// Sealed is absent once the version is destroyed, and in other back ends.
	Sealed *sealed `json:"sealed,omitempty"`
}

func (r *record) current() *recordVersion { return &r.Versions[r.Current-1] }

// append makes a version the current one.
func (r *record) append(v recordVersion, now time.Time) {
	if v.State == Active {
		v.ActivatedAt = &now
	}
	r.Versions = append(r.Versions, v)
	r.Current = v.Version
}

func (r *record) place(v *recordVersion) place {
	return place{name: r.Name, keyID: v.KeyID, algorithm: r.Algorithm, purposes: r.Purposes, version: v.Version}
}

// encode makes the object that replaces revision r.Revision; the record inside
// names the revision the object will have.
func (m *Master) encode(r record) (store.Object, error) {
	previous := r.Revision
	r.Format, r.Master, r.Revision = recordFormat, m.id, previous+1
	raw, err := json.Marshal(r)
	if err != nil {
		return store.Object{}, fmt.Errorf("encoding key record: %w", err)
	}
	body, err := json.Marshal(document{Record: raw, MAC: m.sum(raw)})
	if err != nil {
		return store.Object{}, fmt.Errorf("encoding key document: %w", err)
	}
	return store.Object{
		Kind: Kind, Name: r.Name, Revision: previous, Body: body, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}, nil
}

func (m *Master) sum(raw []byte) []byte {
	h := hmac.New(sha256.New, m.mac)
	h.Write(raw)
	return h.Sum(nil)
}

// decode believes nothing of an object before its MAC was checked over the
// very bytes that are then parsed. Errors wrap ErrSealed.
func (m *Master) decode(o store.Object) (record, error) {
	var d document
	if err := strictjson.Unmarshal(o.Body, &d); err != nil {
		return record{}, fmt.Errorf("%w: key %q: %w", ErrSealed, o.Name, err)
	}
	if !hmac.Equal(m.sum(d.Record), d.MAC) {
		return record{}, fmt.Errorf("%w: key %q was altered or belongs to another master key", ErrSealed, o.Name)
	}
	var r record
	if err := strictjson.Unmarshal(d.Record, &r); err != nil {
		return record{}, fmt.Errorf("%w: key %q: %w", ErrSealed, o.Name, err)
	}
	if err := r.check(o); err != nil {
		return record{}, fmt.Errorf("%w: key %q %w", ErrSealed, o.Name, err)
	}
	return r, nil
}

// check holds what must be true of an authentic record that is in its own
// place.
func (r *record) check(o store.Object) error {
	switch {
	case r.Format != recordFormat:
		return fmt.Errorf("has format %d, not %d", r.Format, recordFormat)
	case r.Name != o.Name || o.Kind != Kind:
		return fmt.Errorf("holds the record of key %q", r.Name)
	case r.Revision != o.Revision:
		return fmt.Errorf("holds revision %d in row revision %d", r.Revision, o.Revision)
	case r.Current < 1 || r.Current != len(r.Versions):
		return fmt.Errorf("has no current version")
	}
	for i, v := range r.Versions {
		if v.Version != i+1 || !slices.Contains(States(), v.State) {
			return fmt.Errorf("has a malformed version %d", i+1)
		}
		if elsewhere := r.Backend != BackendFile; elsewhere != (v.Ref != "") || elsewhere && v.Sealed != nil {
			return fmt.Errorf("has version %d in two back ends or none", i+1)
		}
	}
	return nil
}

func (r *record) key() (Key, error) {
	k := Key{
		Name: r.Name, Algorithm: r.Algorithm, Backend: r.Backend, Ref: r.Ref,
		Purposes: slices.Clone(r.Purposes), State: r.current().State, Current: r.Current,
		Versions: make([]Version, 0, len(r.Versions)),
		Revision: r.Revision, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
	for i := range r.Versions {
		v, err := r.version(&r.Versions[i])
		if err != nil {
			return Key{}, err
		}
		k.Versions = append(k.Versions, v)
	}
	return k, nil
}

func (r *record) version(v *recordVersion) (Version, error) {
	block, rest := pem.Decode([]byte(v.Public))
	if block == nil || len(rest) != 0 {
		return Version{}, fmt.Errorf("%w: key %q version %d has no public half", ErrSealed, r.Name, v.Version)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Version{}, fmt.Errorf("%w: key %q version %d: %w", ErrSealed, r.Name, v.Version, err)
	}
	// The algorithm is a property of the record; a public half of another kind
	// would let a signature choose how it is verified.
	if algorithm, err := AlgorithmOf(pub); err != nil || algorithm != r.Algorithm {
		return Version{}, fmt.Errorf("%w: key %q version %d is not %s", ErrSealed, r.Name, v.Version, r.Algorithm)
	}
	if id, err := KeyID(pub); err != nil || id != v.KeyID {
		return Version{}, fmt.Errorf("%w: key %q version %d has another key id", ErrSealed, r.Name, v.Version)
	}
	return Version{
		Version: v.Version, KeyID: v.KeyID, Public: pub, PublicPEM: v.Public, Ref: v.Ref, State: v.State,
		CreatedAt: v.CreatedAt, ActivatedAt: copyTime(v.ActivatedAt), SuspendedAt: copyTime(v.SuspendedAt),
		DeactivatedAt: copyTime(v.DeactivatedAt), RevokedAt: copyTime(v.RevokedAt),
		CompromisedAt: copyTime(v.CompromisedAt), RevokedReason: v.RevokedReason,
		DestroyedAt: copyTime(v.DestroyedAt),
	}, nil
}

func copyTime(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	c := *t
	return &c
}
