package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
)

func (a *app) logCommand() *cobra.Command {
	cmd := group("log", "Read, search and audit the transparency log")
	cmd.AddCommand(
		&cobra.Command{
			Use:   "checkpoint",
			Short: "Print the newest checkpoint",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				note, err := client.Checkpoint(cmd.Context())
				if err != nil {
					return err
				}
				_, err = a.out.Write(note)
				return err
			},
		},
		a.logEntryCommand(), a.logAuditCommand(),
		a.logSearchCommand(), a.logConsistencyCommand(), a.logReindexCommand(), a.logVKeyCommand(), a.logMonitorCommand(), a.logModeCommand(),
	)
	return cmd
}

func (a *app) logEntryCommand() *cobra.Command {
	var logID string
	cmd := &cobra.Command{
		Use:   "entry INDEX",
		Short: "Print an entry with a fresh inclusion proof (JSON)",
		Args:  exactArgs("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || index < 0 {
				return usagef("INDEX: want a number from 0 on")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			entry, err := client.LogEntryOf(cmd.Context(), logID, index)
			if err != nil {
				return err
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, entry, "", "  "); err != nil {
				return fmt.Errorf("reading the entry: %w", err)
			}
			_, err = fmt.Fprintln(a.out, pretty.String())
			return err
		},
	}
	cmd.Flags().StringVar(&logID, "log-id", "", "hexadecimal id of the shard, as answers name it (default: the shard that is written)")
	return cmd
}
