package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// ErrState says that the file of what was verified cannot be used. Starting
// without it would let a fork pass for the first thing that was ever seen, so
// only a person removes it.
var ErrState = errors.New("monitor state")

// progress is what was verified of one log.
type progress struct {
	// Checkpoint is the newest one that was verified, a signed note.
	Checkpoint string `json:"checkpoint"`
	// Edge are the hashes of the perfect subtrees under its root: what the next
	// entries are put on.
	Edge [][]byte `json:"edge"`
	// Seen are the newest notes of other places, by their URL.
	Seen map[string]string `json:"seen,omitempty"`
}

func (p progress) equal(other progress) bool {
	return p.Checkpoint == other.Checkpoint && maps.Equal(p.Seen, other.Seen) && slices.EqualFunc(p.Edge, other.Edge, bytes.Equal)
}

// state is the content of the file, by origin and key hash.
type state struct {
	Logs map[string]progress `json:"logs"`
}

func readState(path string) (state, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{Logs: map[string]progress{}}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	defer f.Close() //nolint:errcheck // only read
	raw, err := io.ReadAll(io.LimitReader(f, limits.MonitorState+1))
	if err != nil || len(raw) > limits.MonitorState {
		return state{}, fmt.Errorf("%w: reading %s, of at most %d bytes: %w", ErrState, path, limits.MonitorState, err)
	}
	var s state
	if err := strictjson.Unmarshal(raw, &s); err != nil || s.Logs == nil {
		return state{}, fmt.Errorf("%w: %s is damaged: %w", ErrState, path, err)
	}
	return s, nil
}

// write replaces the file in one durable step.
func (s state) write(path string) error {
	content, err := strictjson.Marshal(s)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	_, err = f.Write(append(content, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(fresh, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
