package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/trust/tuf"
)

func (a *app) trustKeygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make an offline key: FILE (private, 0600) and its public half beside it (.pub)",
		Long: "Makes an ECDSA P-256 key, PKCS #8 in PEM, not encrypted: keep it on a medium that\n" +
			"is. Keys made by other tools and tokens are as good; only the public half is needed\n" +
			"here.",
		Args: exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			public := strings.TrimSuffix(args[0], ".key") + ".pub"
			id, err := writeKeyPair(args[0], public)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.err, "private key in %s, public key in %s\n", args[0], public)
			_, err = fmt.Fprintln(a.out, id)
			return err
		},
	}
}

func writeKeyPair(private, public string) (id string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("generating a key: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encoding the key: %w", err)
	}
	open, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", fmt.Errorf("encoding the key: %w", err)
	}
	if err := writeNew(private, "PRIVATE KEY", secret, 0o600); err != nil {
		return "", err
	}
	if err := writeNew(public, "PUBLIC KEY", open, 0o644); err != nil {
		return "", err
	}
	return tuf.KeyID(key.Public())
}

// writeNew refuses to overwrite: a lost offline key is lost for good.
func writeNew(path, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: %w", errConflict, err)
	}
	if err != nil {
		return usagef("%v", err)
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync(), f.Close())
}

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 64 << 10

func readPrivateKey(path string) (crypto.Signer, error) {
	if path == "" {
		return nil, usagef("--key: name the file with the private key")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("%v", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, usagef("%s: want one PEM block PRIVATE KEY (PKCS #8, not encrypted)", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, usagef("%s: %v", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, usagef("%s: %T does not sign", path, key)
	}
	return signer, nil
}
