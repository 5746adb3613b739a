package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

func (a *app) logModeCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "read-only [on|off]",
		Short: "Have the log take nothing new, or tell whether it does",
		Long: "While the log is read-only nothing is signed; what is there is verified and read as\n" +
			"before. It stays so across restarts, until it is set to off.",
		ValidArgs: []string{"on", "off"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] != "on" && args[0] != "off" {
				return usagef("want on, off, or nothing to ask")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var mode api.LogMode
			if len(args) == 0 {
				mode, err = client.LogMode(cmd.Context())
			} else {
				mode, err = client.SetLogMode(cmd.Context(), api.LogModeRequest{ReadOnly: args[0] == "on", Reason: reason})
			}
			if err != nil {
				return err
			}
			return a.print(mode, func() string { return logModeText(mode) })
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the journal")
	return cmd
}

func logModeText(m api.LogMode) string {
	text := "the log takes entries"
	if m.ReadOnly {
		text = "the log is read-only"
	}
	if !m.Since.IsZero() {
		text += fmt.Sprintf(" since %s", m.Since.Format("2006-01-02 15:04:05Z"))
	}
	if m.Reason != "" {
		text += ": " + clean(m.Reason)
	}
	return text
}
