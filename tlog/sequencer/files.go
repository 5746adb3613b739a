package sequencer

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
)

// unfinished is the suffix of a file that is being written. One writer has the
// directory, so one name is enough, and what a crash leaves is overwritten.
const unfinished = ".new"

// filesParallel bounds the files of one batch that are written at the same time:
// the disk flushes together what waits together.
const filesParallel = 16

// replaceFile makes content what is found under path, durably and in one step:
// a reader, and a start after a crash, sees all of the old file or all of the
// new one. An error says that it may be either. Errors are ErrStorage.
func replaceFile(path string, content []byte) error {
	return replaceFiles(map[string][]byte{path: content})
}

// replaceFiles is replaceFile for files of which nobody knows yet, in no
// particular order; when it returns nil, all of them are durable.
func replaceFiles(files map[string][]byte) error {
	dirs := make(map[string]bool)
	for path := range files {
		dirs[filepath.Dir(path)] = true
	}
	for dir := range dirs {
		if err := makeDirs(dir); err != nil {
			return fmt.Errorf("%w: %w", ErrStorage, err)
		}
	}
	err := within(slices.Collect(maps.Keys(dirs)), func() error {
		var group errgroup.Group
		group.SetLimit(filesParallel)
		for path, content := range files {
			group.Go(func() error { return writeAndRename(path, content) })
		}
		return group.Wait()
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStorage, err)
	}
	return nil
}

func writeAndRename(path string, content []byte) error {
	if err := writeFile(path+unfinished, content); err != nil {
		return errors.Join(err, discard(path+unfinished))
	}
	return os.Rename(path+unfinished, path)
}

// within changes the entries of directories and flushes them. They are held
// open meanwhile, so that a failure of writing one back in between is reported
// here and not forgotten with its inode.
func within(dirs []string, change func() error) error {
	handles := make([]*os.File, 0, len(dirs))
	var err error
	for _, dir := range dirs {
		var handle *os.File
		if handle, err = os.Open(dir); err != nil {
			break
		}
		handles = append(handles, handle)
	}
	if err == nil {
		err = change()
	}
	var group errgroup.Group
	for _, handle := range handles {
		group.Go(func() error {
			if err != nil {
				return handle.Close()
			}
			return errors.Join(handle.Sync(), handle.Close())
		})
	}
	return errors.Join(err, group.Wait())
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
	err = within([]string{filepath.Dir(dir)}, func() error { return os.Mkdir(dir, 0o755) }) //nolint:gosec // the tree is public
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return errors.Join(err, discard(dir))
}
