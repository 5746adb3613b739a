package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/trust"
)

// logVKeyCommand prints what a witness is configured with.
func (a *app) logVKeyCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "vkey",
		Short: "Print the log's verifier key, for the configuration of witnesses",
		Long: "Prints the verifier key (C2SP signed-note) of each shard that has no end, a line for\n" +
			"each: the one that is written and, while a rotation of the log waits, the next.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			document, err := a.rootDocument(cmd, root)
			if err != nil {
				return err
			}
			parsed, err := trust.ParseTrustedRoot(document)
			if err != nil {
				return usagef("no log in the trusted root: %v", err)
			}
			return a.printVKeys(parsed.Logs)
		},
	}
	cmd.Flags().StringVar(&root, "trusted-root", "", "trusted_root.json to read (default: what the service gives)")
	return cmd
}

func (a *app) printVKeys(logs []trust.Log) error {
	open := 0
	for _, log := range logs {
		if log.End != nil {
			continue
		}
		vkey, err := tlog.MarshalVerifierKey(log.Origin, log.Public)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(a.out, vkey); err != nil {
			return err
		}
		open++
	}
	if open == 0 {
		return usagef("the trusted root names no log that is written")
	}
	return nil
}

// rootDocument is a trusted root from a file, or the service's.
func (a *app) rootDocument(cmd *cobra.Command, path string) ([]byte, error) {
	if path != "" {
		document, err := os.ReadFile(path)
		if err != nil {
			return nil, usagef("%v", err)
		}
		return document, nil
	}
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	return client.TrustedRoot(cmd.Context())
}
