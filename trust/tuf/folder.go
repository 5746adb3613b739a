package tuf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/countersign/countersign/internal/limits"
)

const (
	workFolder    = "work"
	targetsFolder = "targets"
	lockFile      = "lock"
	// Files of the work folder.
	draftRoot    = workFolder + "/root.json"
	draftTargets = workFolder + "/targets.json"
	requestFile  = workFolder + "/rotate.json"
	onlineFile   = workFolder + "/online.json"
)

// Folder is a repository's folder without any private key: what the ceremony
// works on. It is safe for concurrent use, also by several processes.
type Folder struct {
	dir  string
	root *os.Root
	// before is called ahead of each change to the folder, when set: tests end
	// a process there.
	before func(name string) error
}

// OpenFolder opens the folder of a repository, which must exist. Close gives it
// back.
func OpenFolder(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the TUF repository: %w", err)
	}
	for _, name := range []string{workFolder, targetsFolder} {
		if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(fmt.Errorf("opening the TUF repository: %w", err), root.Close())
		}
	}
	return &Folder{dir: dir, root: root}, nil
}

// Close releases the folder.
func (f *Folder) Close() error { return f.root.Close() }

// lock keeps other processes from changing the folder until the function it
// returns is called. Readers need no lock.
func (f *Folder) lock(ctx context.Context) (unlock func() error, err error) {
	lock := flock.New(filepath.Join(f.dir, workFolder, lockFile), flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return nil, errors.Join(fmt.Errorf("locking the TUF repository: %w", err), lock.Close())
	}
	return lock.Unlock, nil
}

// read returns a regular file of at most limits.TUFDocument bytes. A symbolic
// link, also one to a place inside, and everything else that is not a regular
// file is ErrNotFound: only what was written here is published.
func (f *Folder) read(name string) ([]byte, error) {
	before, err := f.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the TUF repository: %w", err)
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrNotFound, name)
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the TUF repository: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read from
	after, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the TUF repository: %w", err)
	}
	// Replaced in between by a rename is fine; by a link it is not.
	if !after.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrNotFound, name)
	}
	raw, err := io.ReadAll(io.LimitReader(file, limits.TUFDocument+1))
	if err != nil {
		return nil, fmt.Errorf("reading the TUF repository: %w", err)
	}
	if len(raw) > limits.TUFDocument {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrDamaged, name, limits.TUFDocument)
	}
	return raw, nil
}

// write replaces a file in one step, durably: afterwards either the old or the
// new bytes are there, also after a power failure.
func (f *Folder) write(name string, content []byte) error {
	if err := f.announce(name); err != nil {
		return err
	}
	fresh := path.Join(workFolder, path.Base(name)+".new")
	file, err := f.root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("writing the TUF repository: %w", err)
	}
	_, writeErr := file.Write(content)
	if err := errors.Join(writeErr, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("writing the TUF repository: %w", err)
	}
	if err := f.root.Rename(fresh, name); err != nil {
		return fmt.Errorf("writing the TUF repository: %w", err)
	}
	return f.syncFolder(path.Dir(name))
}

func (f *Folder) announce(name string) error {
	if f.before == nil {
		return nil
	}
	return f.before(name)
}

// writeOnce writes a file that never changes. The same bytes again are no
// error; other bytes are ErrDamaged.
func (f *Folder) writeOnce(name string, content []byte) error {
	there, err := f.read(name)
	switch {
	case err == nil && bytes.Equal(there, content):
		return nil
	case err == nil:
		return fmt.Errorf("%w: %s exists with other content", ErrDamaged, name)
	case !errors.Is(err, ErrNotFound):
		return err
	}
	return f.write(name, content)
}

// update replaces a file unless it has these bytes already.
func (f *Folder) update(name string, content []byte) error {
	there, err := f.read(name)
	if err == nil && bytes.Equal(there, content) {
		return nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return f.write(name, content)
}

func (f *Folder) remove(name string) error {
	if _, err := f.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := f.announce(name); err != nil {
		return err
	}
	if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing from the TUF repository: %w", err)
	}
	return f.syncFolder(path.Dir(name))
}

// syncFolder makes renames and removals in a folder durable.
func (f *Folder) syncFolder(name string) error {
	folder, err := f.root.Open(name)
	if err != nil {
		return fmt.Errorf("writing the TUF repository: %w", err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return fmt.Errorf("writing the TUF repository: %w", err)
	}
	return nil
}

// versions is the highest version of each role that has a file, also of
// leftovers that nothing refers to.
func (f *Folder) versions() (map[Role]int64, error) {
	folder, err := f.root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("reading the TUF repository: %w", err)
	}
	defer folder.Close() //nolint:errcheck // only read from
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("reading the TUF repository: %w", err)
	}
	highest := map[Role]int64{}
	for _, name := range names {
		if file, err := ParsePath(name); err == nil && file.Version > highest[file.Role] {
			highest[file.Role] = file.Version
		}
	}
	return highest, nil
}
