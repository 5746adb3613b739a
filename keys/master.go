package keys

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// masterPrefix starts the one line of a master key file; the rest is the
// standard base64 of 32 random bytes.
const (
	masterPrefix = "COUNTERSIGN-MASTER-KEY-1 "
	masterSize   = 32
	masterMode   = fs.FileMode(0o600)
)

// Master is the secret that seals every stored key. It prints as nothing.
type Master struct {
	id   string
	wrap tink.AEAD
	mac  []byte
	// replica is the secret of the master key of verification replicas.
	replica []byte
}

// ID names the master key without revealing it; sealed records carry it so
// that a wrong master key is told from a tampered record.
func (m *Master) ID() string { return m.id }

// String hides the secret.
func (m Master) String() string { return "master key " + m.id }

// GoString hides the secret.
func (m Master) GoString() string { return m.String() }

// OpenMaster reads the master key file, or makes it with mode 0600 when there
// is none. The file appears complete or not at all, survives the machine
// stopping once OpenMaster returned, and is never overwritten: of two
// processes that start together both use the one file. It refuses with
// ErrMaster a file that is not regular, that anybody but its owner may read or
// write, or that is not in its one form. Losing the file loses every key.
func OpenMaster(path string) (*Master, error) {
	secret, err := masterFile().read(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createMaster(path); err != nil {
			return nil, err
		}
		secret, err = masterFile().read(path)
	}
	if err != nil {
		return nil, err
	}
	return newMaster(secret)
}

func newMaster(secret []byte) (*Master, error) {
	derive := func(label string) ([]byte, error) {
		return hkdf.Key(sha256.New, secret, nil, "countersign keys 1 "+label, masterSize)
	}
	wrapping, err := derive("wrap")
	if err != nil {
		return nil, fmt.Errorf("deriving the wrapping key: %w", err)
	}
	mac, err := derive("mac")
	if err != nil {
		return nil, fmt.Errorf("deriving the record key: %w", err)
	}
	replica, err := derive("replica")
	if err != nil {
		return nil, fmt.Errorf("deriving the replicas' key: %w", err)
	}
	id, err := derive("id")
	if err != nil {
		return nil, fmt.Errorf("deriving the master key's id: %w", err)
	}
	wrap, err := subtle.NewAESGCM(wrapping)
	if err != nil {
		return nil, fmt.Errorf("opening the wrapping key: %w", err)
	}
	return &Master{id: hex.EncodeToString(id[:8]), wrap: wrap, mac: mac, replica: replica}, nil
}

// secretFile is the form of a file that holds one secret: a line that begins with
// a prefix, with the standard base64 of 32 bytes behind it.
type secretFile struct {
	what   string
	prefix string
	// mode has the permissions that the file may have.
	mode fs.FileMode
}

func masterFile() secretFile {
	return secretFile{what: "master key", prefix: masterPrefix, mode: masterMode}
}

func (s secretFile) read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the %s file: %w", s.what, err)
	}
	defer f.Close() //nolint:errcheck // only read from
	// The checks are on the opened file, so that it cannot be exchanged
	// between check and use.
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("examining the %s file: %w", s.what, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrMaster, path)
	}
	if extra := info.Mode().Perm() &^ s.mode; extra != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o; want %04o or less", ErrMaster, path, info.Mode().Perm(), s.mode)
	}
	content, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return nil, fmt.Errorf("reading the %s file: %w", s.what, err)
	}
	return s.parse(path, string(content))
}

func (s secretFile) parse(path, content string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(content, s.prefix)
	secret, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, "\n"))
	if !ok || err != nil || len(secret) != masterSize || content != s.format(secret) {
		return nil, fmt.Errorf("%w: %s does not hold one %s", ErrMaster, path, s.what)
	}
	return secret, nil
}

func (s secretFile) format(secret []byte) string {
	return s.prefix + base64.StdEncoding.EncodeToString(secret) + "\n"
}

// createMaster writes a temporary file beside path, makes it durable, and only
// then gives it its name; linking fails when the name is taken.
func createMaster(path string) error {
	secret := make([]byte, masterSize)
	if _, err := rand.Read(secret); err != nil {
		return fmt.Errorf("drawing a master key: %w", err)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".master-*") // mode 0600
	if err != nil {
		return fmt.Errorf("making the master key file: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // a leftover has no name that is used
	if err := writeDurably(f, masterFile().format(secret)); err != nil {
		return fmt.Errorf("writing the master key file: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("naming the master key file: %w", err)
	}
	return syncDir(dir)
}

func writeDurably(f *os.File, content string) error {
	_, err := f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening the master key's directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing the master key's directory: %w", err)
	}
	return nil
}
