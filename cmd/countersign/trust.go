package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/trust"
)

func (a *app) trustCommand() *cobra.Command {
	cmd := group("trust", "Public material for stock clients, and the root of trust")
	cmd.AddCommand(a.ceremonyCommands()...)
	var signingConfig bool
	var notation string
	export := &cobra.Command{
		Use:   "export",
		Short: "Print trusted_root.json, as cosign --trusted-root takes it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if notation != "" {
				return a.exportNotation(cmd.Context(), client, notation)
			}
			get := client.TrustedRoot
			if signingConfig {
				get = client.SigningConfig
			}
			document, err := get(cmd.Context())
			if err != nil {
				return err
			}
			_, err = a.out.Write(document)
			return err
		},
	}
	export.Flags().BoolVar(&signingConfig, "signing-config", false, "print signing_config.json instead, as cosign --signing-config takes it")
	export.Flags().StringVar(&notation, "notation", "", "write trust stores and trustpolicy.json into this folder instead, notation's configuration folder")
	export.MarkFlagsMutuallyExclusive("signing-config", "notation")
	cmd.AddCommand(export)
	return cmd
}

// finding is one line of `doctor`.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// maxSkew is how far the clocks of client and server may differ.
const maxSkew = 30 * time.Second

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check the way to the service, and the service",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			findings := a.examine(cmd.Context(), client)
			if err := a.print(findings, func() string { return a.findingTable(findings) }); err != nil {
				return err
			}
			for _, f := range findings {
				if !f.OK {
					return fmt.Errorf("%w: %s: %s", errUndecided, f.Check, f.Detail)
				}
			}
			return nil
		},
	}
}

// examine asks the service about itself; each finding says what to do.
func (a *app) examine(ctx context.Context, client *api.Client) []finding {
	found := []finding{}
	note := func(check string, err error, good string) {
		f := finding{Check: check, OK: err == nil, Detail: good}
		if err != nil {
			f.Detail = err.Error()
		}
		found = append(found, f)
	}
	ready, status, err := client.Ready(ctx)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("not ready: %v", ready.Checks)
	}
	note("ready", err, "the service is ready")
	me, err := client.Me(ctx)
	note("credentials", err, fmt.Sprintf("%s with roles %v", me.Subject, me.Roles))
	note("clock", a.checkClock(ctx, client), "clocks agree")
	root, err := client.TrustedRoot(ctx)
	if err == nil {
		_, err = trust.ParseTrustedRoot(root)
	}
	note("trusted root", err, "valid")
	_, err = client.Checkpoint(ctx)
	note("log", err, "the checkpoint is served")
	registries, err := client.Registries(ctx, api.ListOptions{})
	if err == nil && len(registries.Items) == 0 {
		err = errors.New("no registry is listed: countersign registries apply HOST --repositories '…'")
	}
	note("registries", err, fmt.Sprintf("%d listed", len(registries.Items)))
	return found
}

// checkClock compares the server's record of a moment with ours: signatures
// carry the server's time, and deadlines ours.
func (a *app) checkClock(ctx context.Context, client *api.Client) error {
	records, err := client.Audit(ctx, api.ListOptions{Limit: 1})
	if err != nil || len(records.Items) == 0 {
		return err
	}
	if ahead := records.Items[0].Time.Sub(a.clock.Now()); ahead > maxSkew {
		return fmt.Errorf("the server's clock is %s ahead of this machine's", ahead.Round(time.Second))
	}
	return nil
}

func (a *app) findingTable(findings []finding) string {
	rows := make([][]string, 0, len(findings))
	for _, f := range findings {
		mark := "ok"
		if !f.OK {
			mark = "PROBLEM"
		}
		rows = append(rows, []string{f.Check, mark, f.Detail})
	}
	return a.grid([]string{"CHECK", "", "DETAIL"}, rows)
}
