package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

// operationPoll is how often a pending operation is asked about.
const operationPoll = 250 * time.Millisecond

func (a *app) signCommand() *cobra.Command {
	var (
		request     api.SignatureRequest
		annotations []string
		options     api.SignOptions
		async       bool
	)
	cmd := &cobra.Command{
		Use:   "sign IMAGE",
		Short: "Sign an image in its registry",
		Long: "Signs the image that the reference names now: a tag is resolved once and the\n" +
			"answer names the digest. The signature is logged, timestamped and attached.",
		Args: exactArgs("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			request.Image = args[0]
			if request.Annotations, err = pairs("-a", annotations); err != nil {
				return err
			}
			if async {
				return a.startSign(cmd.Context(), client, request, options)
			}
			signature, _, err := client.Sign(cmd.Context(), request, options)
			if err != nil {
				return a.unfinished(err)
			}
			return a.printSignature(signature)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Key, "key", "", "name of the managed key, or identity for a certificate of the caller's own identity")
	flags.StringArrayVarP(&annotations, "annotations", "a", nil, "key=value to sign together with the digest; may be repeated")
	flags.BoolVarP(&request.Recursive, "recursive", "r", false, "sign each child of an index too")
	flags.StringSliceVar(&request.Formats, "format", nil, "bundle (default), legacy or notation; may be repeated")
	flags.StringVar(&options.IdempotencyKey, "idempotency-key", "", "name of this attempt: a repeated call gives the same signature")
	flags.BoolVar(&async, "async", false, "answer with an operation at once (exit code 8)")
	return cmd
}

// pairs reads key=value arguments.
func pairs(flag string, args []string) (map[string]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, arg := range args {
		key, value, found := strings.Cut(arg, "=")
		if !found || key == "" {
			return nil, usagef("%s: want key=value", flag)
		}
		if _, twice := out[key]; twice {
			return nil, usagef("%s: %q is given twice", flag, key)
		}
		out[key] = value
	}
	return out, nil
}

func (a *app) startSign(ctx context.Context, client *api.Client, request api.SignatureRequest, options api.SignOptions) error {
	operation, err := client.StartSign(ctx, request, options)
	return a.begun(operation, err)
}

func (a *app) printSignature(s api.Signature) error {
	return a.print(s, func() string {
		return fmt.Sprintf("%s\nsigned by %s, signature %s\n\n%s",
			clean(s.Image), signerText(s.Signer), s.ID, a.itemTable(s.Signatures))
	})
}

// signerText is who signed, for a person.
func signerText(s api.SignedBy) string {
	if s.Identity != nil {
		return fmt.Sprintf("%s (%s)", clean(s.Identity.Subject), clean(s.Identity.Issuer))
	}
	return fmt.Sprintf("%s (%s)", clean(s.Key), short(s.KeyID))
}

func (a *app) operationCommand() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "operation ID",
		Short: "Show a signing operation",
		Args:  exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			get := client.Operation
			if wait {
				get = func(ctx context.Context, id string) (api.Operation, error) {
					return client.WaitOperation(ctx, id, operationPoll)
				}
			}
			operation, err := get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := a.printOperation(operation); err != nil {
				return err
			}
			if !operation.Finished() {
				return errPending
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is finished")
	return cmd
}

func (a *app) printOperation(o api.Operation) error {
	return a.print(o, func() string {
		rows := make([][]string, 0, len(o.Steps))
		for _, step := range o.Steps {
			rows = append(rows, []string{step.Name, step.State})
		}
		return fmt.Sprintf("operation %s: %s\n\n%s", o.ID, o.State, a.grid([]string{"STEP", "STATE"}, rows))
	})
}
