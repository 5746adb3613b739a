package keys

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
)

const (
	// replicaPrefix starts the one line of a replica key file.
	replicaPrefix = "COUNTERSIGN-REPLICA-KEY-1 "
	// replicaMode allows the group: files out of a Kubernetes secret belong to
	// root and are read through theirs.
	replicaMode fs.FileMode = 0o640
)

func replicaFile() secretFile {
	return secretFile{what: "replica key", prefix: replicaPrefix, mode: replicaMode}
}

// ReplicaKey is the line that [OpenReplicaKey] reads from a file: the secret of
// the master key that verification replicas have. It is derived from this one
// and stays the same; it opens nothing that this one sealed, no private key
// above all.
func (m *Master) ReplicaKey() string { return replicaFile().format(m.replica) }

// Replica is the master key that verification replicas have: what is sealed or
// authentic under it is for them.
func (m *Master) Replica() (*Master, error) { return newMaster(m.replica) }

// OpenReplicaKey reads the file that holds what [Master.ReplicaKey] printed. It
// refuses with ErrMaster a file that is not regular, that others than its owner
// and group may read, or that is not in its one form.
func OpenReplicaKey(path string) (*Master, error) {
	secret, err := replicaFile().read(path)
	if err != nil {
		return nil, err
	}
	return newMaster(secret)
}

// Publish returns the managed keys as the objects of a ring of their own, which
// Open reads under the master key that is named: names, states, times and
// public halves, ordered by name. No private key is in them, sealed or not.
func (r *Ring) Publish(ctx context.Context, under *Master) ([]store.Object, error) {
	var published []store.Object
	page := store.Page{Limit: limits.PageMax}
	for {
		objects, next, err := r.objects.List(ctx, Kind, page)
		if err != nil {
			return nil, fmt.Errorf("listing keys: %w", err)
		}
		for _, o := range objects {
			public, managed, err := r.public(o, under)
			if err != nil {
				return nil, err
			}
			if managed {
				published = append(published, public)
			}
		}
		if next == "" {
			return published, nil
		}
		page.Cursor = next
	}
}

// public is an object without its sealed boxes, authentic under another master
// key.
func (r *Ring) public(o store.Object, under *Master) (public store.Object, managed bool, err error) {
	rec, err := r.master.decode(o)
	if err != nil {
		return store.Object{}, false, err
	}
	key, err := rec.key()
	if err != nil || !key.Managed() {
		return store.Object{}, false, err
	}
	for i := range rec.Versions {
		rec.Versions[i].Sealed = nil
	}
	rec.Revision-- // encode names the revision that follows
	if public, err = under.encode(rec); err != nil {
		return store.Object{}, false, err
	}
	public.Revision++
	return public, true, nil
}
