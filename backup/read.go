package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/tlog"
)

// Read reads a whole archive and writes its files below dir, which must exist;
// an empty dir writes nothing and only checks. ErrArchive, wrapped with what is
// wrong, for anything but a whole archive of this format; what was written
// before that was found out stays, and must not be used.
func Read(ctx context.Context, r io.Reader, dir string) (Description, error) {
	zip, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(limits.BackupWindow))
	if err != nil {
		return Description{}, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	defer zip.Close()
	in := &reader{tar: tar.NewReader(untilDone{ctx, zip}), sum: sha256.New(), dir: dir}
	if err := in.all(); err != nil {
		if ctx.Err() != nil {
			return Description{}, ctx.Err()
		}
		return Description{}, err
	}
	return in.description, nil
}

type reader struct {
	tar         *tar.Reader
	sum         hash.Hash
	dir         string
	description Description
}

func (r *reader) all() error {
	header, err := r.next()
	if err != nil {
		return err
	}
	if header.Name != descriptionName {
		return fmt.Errorf("%w: it does not begin with %s", ErrArchive, descriptionName)
	}
	if err := r.describe(header); err != nil {
		return err
	}
	for {
		sealed := hex.EncodeToString(r.sum.Sum(nil))
		header, err := r.next()
		if err != nil {
			return err
		}
		if header.Name == sealName {
			return r.end(header, sealed)
		}
		if err := r.file(header); err != nil {
			return err
		}
	}
}

func (r *reader) next() (*tar.Header, error) {
	header, err := r.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it ends without its seal: it was cut short", ErrArchive)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	case header.Typeflag != tar.TypeReg:
		return nil, fmt.Errorf("%w: %q is not a file", ErrArchive, header.Name)
	}
	count(r.sum, header.Name, header.Size)
	return header, nil
}

// document reads a small member.
func (r *reader) document(header *tar.Header, out any) error {
	if header.Size > limits.BackupDescription {
		return fmt.Errorf("%w: %s is too large", ErrArchive, header.Name)
	}
	text, err := io.ReadAll(io.TeeReader(r.tar, r.sum))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if err := strictjson.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrArchive, header.Name, err)
	}
	return nil
}

func (r *reader) describe(header *tar.Header) error {
	if err := r.document(header, &r.description); err != nil {
		return err
	}
	if r.description.Format < oldest || r.description.Format > format {
		return fmt.Errorf("%w: format %d, this program reads %d to %d", ErrArchive, r.description.Format, oldest, format)
	}
	for _, s := range r.description.Shards {
		if !ownFolder(s.Folder) {
			return fmt.Errorf("%w: %q is no folder of a shard", ErrArchive, s.Folder)
		}
	}
	return nil
}

// ownFolder reports whether a shard may lie in a folder of that name: log,
// log-2 and so on.
func ownFolder(name string) bool {
	number, later := strings.CutPrefix(name, "log-")
	return name == "log" || later && number != "" && strings.Trim(number, "0123456789") == "" && number[0] != '0'
}

func (r *reader) end(header *tar.Header, sealed string) error {
	var s seal
	if err := r.document(header, &s); err != nil {
		return err
	}
	if s.SHA256 != sealed {
		return fmt.Errorf("%w: its seal is not that of its content: it is damaged", ErrArchive)
	}
	if _, err := r.tar.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the seal", ErrArchive)
	}
	return nil
}

// file writes one file of the data folder.
func (r *reader) file(header *tar.Header) error {
	if !r.belongs(header.Name) {
		return fmt.Errorf("%w: %q does not belong into a backup", ErrArchive, header.Name)
	}
	if r.dir == "" {
		return r.copy(io.Discard)
	}
	target := filepath.Join(r.dir, filepath.FromSlash(header.Name))
	if err := os.MkdirAll(filepath.Dir(target), r.mode(header.Name)|0o111); err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, r.mode(header.Name))
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	return errors.Join(r.copy(f), f.Sync(), f.Close())
}

// mode is what the service gives such a file: the log is public, the database
// and the monitor's state are not.
func (r *reader) mode(name string) os.FileMode {
	if name == Database || name == Monitor {
		return 0o600
	}
	return 0o644
}

func (r *reader) copy(to io.Writer) error {
	if _, err := io.Copy(io.MultiWriter(to, r.sum), r.tar); err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return nil
}

// belongs reports whether Write writes a file of that name.
func (r *reader) belongs(name string) bool {
	if name == Database || name == Monitor {
		return true
	}
	folder, rest, found := strings.Cut(name, "/")
	if !found || path.Clean(name) != name || !filepath.IsLocal(filepath.FromSlash(rest)) || strings.Contains(rest, `\`) {
		return false
	}
	if folder == "tuf" {
		return true
	}
	for _, s := range r.description.Shards {
		if s.Folder == folder {
			_, err := tlog.ParseTilePath(rest)
			return rest == "checkpoint" || err == nil
		}
	}
	return false
}
