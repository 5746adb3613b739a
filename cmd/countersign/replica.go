package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/keys"
)

func (a *app) replicaCommand() *cobra.Command {
	cmd := group("replica", "What verification replicas need to be set up with")
	cmd.AddCommand(a.replicaKeyCommand())
	return cmd
}

// replicaKeyCommand prints a secret, and nothing that the service answers: it is
// run by who can read the data folder anyway.
func (a *app) replicaKeyCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the replica key, for serve --role verify --replica-key-file",
		Long: "Prints the key under which the service tells its verification replicas whom to\n" +
			"believe, and keeps the passwords of registries for them. It is derived from the\n" +
			"master key and stays the same; it opens no private key. Keep it like a password:\n" +
			"who has it and can write the database can make replicas believe anything.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path := filepath.Join(dir, "master.key")
			// OpenMaster would make one.
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return usagef("--data-dir: there is no master key in %s: name the folder of a service that was started", dir)
			}
			master, err := keys.OpenMaster(path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.out, master.ReplicaKey())
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "./countersign-data", "the service's data folder")
	return cmd
}
