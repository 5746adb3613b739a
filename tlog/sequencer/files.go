package sequencer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// unfinished is the suffix of a file that is being written. One writer has the
// directory, so one name is enough, and what a crash leaves is overwritten.
const unfinished = ".new"

// replaceFile makes content what is found under path, durably and in one step:
// a reader, and a start after a crash, sees all of the old file or all of the
// new one. An error says that it may be either. Errors are ErrStorage.
func replaceFile(path string, content []byte) error {
	err := makeDirs(filepath.Dir(path))
	if err == nil {
		err = within(filepath.Dir(path), func() error {
			if err := writeFile(path+unfinished, content); err != nil {
				return errors.Join(err, discard(path+unfinished))
			}
			return os.Rename(path+unfinished, path)
		})
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	return nil
}

// within changes the entries of a directory and flushes them. The directory is
// held open meanwhile, so that a failure of writing it back in between is
// reported here and not forgotten with its inode.
func within(dir string, change func() error) error {
	handle, err := os.Open(dir) //nolint:gosec // a directory of the log
	if err != nil {
		return err
	}
	err = change()
	if err == nil {
		err = handle.Sync()
	}
	return errors.Join(err, handle.Close())
}

func writeFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // public, like the log
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// discard gives a full disk its space back.
func discard(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeDirs is os.MkdirAll that flushes each directory it adds a name to. A name
// that could not be flushed is taken back: the next call would take it for
// durable.
func makeDirs(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a directory", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	err = within(filepath.Dir(dir), func() error { return os.Mkdir(dir, 0o755) }) //nolint:gosec // the tree is public
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return errors.Join(err, discard(dir))
}
