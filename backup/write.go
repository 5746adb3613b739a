package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/countersign/countersign/internal/strictjson"
)

// Writer writes an archive. Its methods are called in the order of the archive.
type Writer struct {
	zip *zstd.Encoder
	tar *tar.Writer
	sum hash.Hash
	at  time.Time
}

// NewWriter begins an archive on w with its description.
func NewWriter(w io.Writer, d Description) (*Writer, error) {
	zip, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("writing the backup: %w", err)
	}
	d.Format = format
	out := &Writer{zip: zip, tar: tar.NewWriter(zip), sum: sha256.New(), at: d.CreatedAt}
	text, err := strictjson.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("writing the backup: %w", err)
	}
	return out, out.Add(descriptionName, text)
}

// Add adds a file by its content.
func (w *Writer) Add(name string, content []byte) error {
	err := w.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: w.at, Format: tar.FormatPAX})
	if err == nil {
		_, err = w.tar.Write(content)
	}
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	count(w.sum, name, int64(len(content)))
	w.sum.Write(content)
	return nil
}

// AddFile adds a file of the disk that nobody changes meanwhile.
func (w *Writer) AddFile(ctx context.Context, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	err = w.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: w.at, Format: tar.FormatPAX})
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	count(w.sum, name, info.Size())
	if _, err := io.Copy(io.MultiWriter(w.tar, w.sum), untilDone{ctx, io.LimitReader(f, info.Size())}); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return nil
}

// Close seals the archive. Without it the archive is not one.
func (w *Writer) Close() error {
	text, err := strictjson.Marshal(seal{SHA256: hex.EncodeToString(w.sum.Sum(nil))})
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	if err := w.Add(sealName, text); err != nil {
		return err
	}
	if err := w.tar.Close(); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	if err := w.zip.Close(); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return nil
}

type seal struct {
	SHA256 string `json:"sha256"`
}

// count puts a member's name and length in front of its content, so that the
// seal reads the same bytes in one way only.
func count(sum hash.Hash, name string, size int64) {
	var lengths [16]byte
	binary.BigEndian.PutUint64(lengths[:8], uint64(len(name)))
	binary.BigEndian.PutUint64(lengths[8:], uint64(size)) //nolint:gosec // not negative
	sum.Write(lengths[:])
	sum.Write([]byte(name))
}

// untilDone ends reading with ctx.
type untilDone struct {
	ctx context.Context //nolint:containedctx // the life of one copy
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
