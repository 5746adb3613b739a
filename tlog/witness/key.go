package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	formatsnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/limits"
)

// ErrKey says that a witness's key cannot be used.
var ErrKey = errors.New("witness key")

// Key is a witness's own Ed25519 key.
type Key struct {
	signer note.Signer
	vkey   string
}

// OpenKey reads the key in a file, or makes it, with that name, when there is
// none. The file holds it in the clear, in the form of a note signer's key
// (PRIVATE+KEY+NAME+ID+KEY), readable by its owner only. name may be empty for a
// key that exists and must otherwise be its own.
func OpenKey(path, name string) (*Key, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if raw, err = makeKey(path, name); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s may be read by others; chmod 600 it, or make a new one if they did", ErrKey, path)
	}
	key, err := parseKey(strings.TrimSuffix(string(raw), "\n"))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, path, err)
	}
	if name != "" && name != key.Name() {
		return nil, fmt.Errorf("%w: %s has the name %s, which its cosignatures carry; a new name needs a new key", ErrKey, path, key.Name())
	}
	return key, nil
}

// makeKey writes a new key durably: a witness that cosigned with a key it lost
// is a stranger after its restart.
func makeKey(path, name string) ([]byte, error) {
	if len(name) > limits.Name {
		return nil, fmt.Errorf("%w: name longer than %d bytes", ErrKey, limits.Name)
	}
	skey, _, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if _, err := parseKey(skey); err != nil {
		return nil, fmt.Errorf("%w: a new one needs a name without spaces and plus signs, such as witness.example.com/w1", ErrKey)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	_, err = f.WriteString(skey + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: writing %s: %w", ErrKey, path, errors.Join(err, os.Remove(path)))
	}
	return []byte(skey), nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

var errKeyForm = errors.New("not a note signer's Ed25519 key")

// parseKey reads a note signer's key. Errors do not repeat it.
func parseKey(skey string) (*Key, error) {
	signer, _, err := formatsnote.NewEd25519SignerVerifier(skey)
	if err != nil {
		return nil, errKeyForm
	}
	// The signer's key has five fields; base64 knows the plus sign too.
	seed, err := base64.StdEncoding.DecodeString(strings.SplitN(skey, "+", 5)[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, errKeyForm
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, errKeyForm
	}
	cosigner, err := formatsnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		return nil, errKeyForm
	}
	if vkey, err = formatsnote.VKeyToCosignatureV1(vkey); err != nil {
		return nil, errKeyForm
	}
	return &Key{signer: cosigner, vkey: vkey}, nil
}

// VKey is the public half as logs and verifiers are configured with it: a C2SP
// verifier key of type 0x04.
func (k *Key) VKey() string { return k.vkey }

// Name is the name that cosignatures carry.
func (k *Key) Name() string { return k.signer.Name() }
