package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/backup"
	"github.com/countersign/countersign/daemon"
)

func (a *app) backupCommand() *cobra.Command {
	var (
		out        string
		recipients []string
		files      []string
	)
	cmd := &cobra.Command{
		Use:   "backup --out FILE",
		Short: "Keep the service's data folder elsewhere, while it runs",
		Long: "Fetches the data folder as it is at one moment: database, log and TUF repository,\n" +
			"without the master key, which is to be kept apart: nothing in a backup can be\n" +
			"opened without it. What is fetched is checked before FILE appears. With\n" +
			"--recipient it is encrypted to age recipients.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("--out: name the file to write")
			}
			to, err := readRecipients(recipients, files)
			if err != nil {
				return err
			}
			return a.backup(cmd.Context(), out, to)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write, which must not exist")
	cmd.Flags().StringArrayVar(&recipients, "recipient", nil, "age recipient (age1…) to encrypt to; may be repeated")
	cmd.Flags().StringArrayVar(&files, "recipients-file", nil, "file with age recipients, one a line; may be repeated")
	return cmd
}

func readRecipients(texts, files []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, text := range texts {
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return nil, usagef("--recipient: %q is no age recipient (age1…)", text)
		}
		all = append(all, r)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage("--recipients-file", err)
		}
		found, err := age.ParseRecipients(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, usagef("--recipients-file: %s: %v", file, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// backup fetches into a file beside the one that is wanted, and checks on the
// way that it is a whole archive.
func (a *app) backup(ctx context.Context, out string, to []age.Recipient) (err error) {
	client, err := a.client()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, usagef("--out: %s exists", out))
	}
	f, err := os.CreateTemp(filepath.Dir(out), filepath.Base(out)+".part-*")
	if err != nil {
		return usage("--out", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // renamed by then, unless something failed
	sealed := io.WriteCloser(keepOpen{f})
	if len(to) > 0 {
		if sealed, err = age.Encrypt(f, to...); err != nil {
			return fmt.Errorf("encrypting: %w", errors.Join(err, f.Close()))
		}
	}
	d, err := fetchBackup(ctx, client.Backup, sealed)
	if err := errors.Join(err, sealed.Close(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), out); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	fmt.Fprintf(a.err, "%s: %s\n", out, describeBackup(d))
	if len(to) == 0 {
		fmt.Fprintln(a.err, "it is not encrypted: it shows who signed what, but no secret without the master key")
	}
	return nil
}

// fetchBackup copies an archive and reads it at the same time.
func fetchBackup(ctx context.Context, fetch func(context.Context, io.Writer) error, to io.Writer) (backup.Description, error) {
	source, sink := io.Pipe()
	fetched := make(chan error, 1)
	go func() {
		err := fetch(ctx, io.MultiWriter(to, sink))
		fetched <- err
		sink.CloseWithError(err)
	}()
	d, err := backup.Read(ctx, source, "")
	if err == nil {
		_, err = io.Copy(io.Discard, source)
	}
	source.CloseWithError(err)
	return d, errors.Join(<-fetched, err)
}

// keepOpen is a file that is closed by whoever opened it.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

func describeBackup(d backup.Description) string {
	entries := uint64(0)
	for _, s := range d.Shards {
		entries += s.Size
	}
	text := fmt.Sprintf("log of %s with %d entries, at %s", clean(d.Origin), entries, d.CreatedAt.UTC().Format("2006-01-02 15:04:05Z"))
	if d.External {
		text += "; keys and log only: the rest is in the external database"
	}
	return text
}

func (a *app) restoreCommand() *cobra.Command {
	config := daemon.RestoreConfig{}
	var identity string
	cmd := &cobra.Command{
		Use:   "restore FILE --data-dir DIR --master-key FILE",
		Short: "Make a data folder of a backup",
		Long: "Makes a data folder of what `countersign backup` wrote, and proves the log, its\n" +
			"index and the master key first. The service that is started on it goes on with a\n" +
			"new log key: the old one may have signed more after the backup was made, and must\n" +
			"not sign anything else in its place. What was signed after the backup keeps its\n" +
			"proofs and is not known here any more.",
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for flag, value := range map[string]string{"--data-dir": config.DataDir, "--master-key": config.MasterKey} {
				if value == "" {
					return usagef("%s is required", flag)
				}
			}
			return a.restore(cmd.Context(), config, args[0], identity)
		},
	}
	cmd.Flags().StringVar(&config.DataDir, "data-dir", "", "folder to make; it must not exist, or be empty")
	cmd.Flags().StringVar(&config.MasterKey, "master-key", "", "master.key of the service that was backed up")
	cmd.Flags().StringVar(&identity, "identity", "", "file with the age identity to decrypt with")
	return cmd
}

func (a *app) restore(ctx context.Context, config daemon.RestoreConfig, file, identity string) error {
	f, err := os.Open(file)
	if err != nil {
		return usage("FILE", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	config.Archive, config.Clock = f, a.clock
	if identity != "" {
		keys, err := os.Open(identity)
		if err != nil {
			return usage("--identity", err)
		}
		identities, err := age.ParseIdentities(keys)
		if err := errors.Join(err, keys.Close()); err != nil {
			return usagef("--identity: %s: %v", identity, err)
		}
		if config.Archive, err = age.Decrypt(f, identities...); err != nil {
			return usagef("--identity: %s: %v", file, err)
		}
	}
	d, err := daemon.Restore(ctx, config)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.err, "%s: %s\nstart the service on it: countersign serve --data-dir %s\n", config.DataDir, describeBackup(d), config.DataDir)
	return nil
}
