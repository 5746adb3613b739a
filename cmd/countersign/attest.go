package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/attest/scan"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/server/api"
)

// signFlags are the same for every command that signs.
type signFlags struct {
	key       string
	recursive bool
	formats   []string
	options   api.SignOptions
	async     bool
}

func (f *signFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "name of the managed key, or identity for a certificate of the caller's own identity")
	flags.BoolVarP(&f.recursive, "recursive", "r", false, "attest each child of an index too")
	flags.StringSliceVar(&f.formats, "format", nil, "bundle (default) or legacy; may be repeated")
	flags.StringVar(&f.options.IdempotencyKey, "idempotency-key", "", "name of this attempt: a repeated call gives the same attestation")
	flags.BoolVar(&f.async, "async", false, "answer with an operation at once (exit code 8)")
}

func (a *app) attestCommand() *cobra.Command {
	var (
		kind, file string
		shared     signFlags
	)
	cmd := &cobra.Command{
		Use:   "attest IMAGE",
		Short: "Attest a predicate about an image in its registry",
		Long: "Signs a statement that the image has the predicate in FILE, which is signed byte\n" +
			"for byte. For --type vuln FILE may also be the report of Trivy (JSON), Grype\n" +
			"(JSON) or another scanner (SARIF 2.1.0).",
		Args: exactArgs("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			request := api.AttestationRequest{Image: args[0], Key: shared.key, Recursive: shared.recursive, Formats: shared.formats}
			if request.PredicateType, request.Predicate, err = a.readPredicate(kind, file); err != nil {
				return err
			}
			if shared.async {
				operation, err := client.StartAttest(cmd.Context(), request, shared.options)
				return a.begun(operation, err)
			}
			attestation, _, err := client.Attest(cmd.Context(), request, shared.options)
			if err != nil {
				return a.unfinished(err)
			}
			return a.printAttestation(attestation)
		},
	}
	cmd.Flags().StringVar(&kind, "type", "", "predicate type: a URI, or one of "+strings.Join(predicate.Names(), ", "))
	cmd.Flags().StringVar(&file, "predicate", "", "file with the predicate, or - for standard input")
	shared.register(cmd)
	return cmd
}

// readPredicate reads the file and makes the predicate of a scanner's report.
func (a *app) readPredicate(kind, file string) (uri string, document []byte, err error) {
	if kind == "" || file == "" {
		return "", nil, usagef("--type and --predicate are required")
	}
	if uri, err = predicate.ParseType(kind); err != nil {
		return "", nil, usagef("--type: %v", err)
	}
	most := limits.Predicate
	if uri == predicate.CosignVuln {
		most = limits.ScanReport
	}
	if document, err = a.readFile("--predicate", file, most); err != nil {
		return "", nil, err
	}
	faulty := predicate.Check(uri, document)
	if faulty == nil || uri != predicate.CosignVuln {
		return uri, document, usage("--predicate", faulty)
	}
	made, err := scan.Vuln(document, a.clock.Now())
	if err != nil {
		return "", nil, usage("--predicate", errors.Join(err, faulty))
	}
	return uri, made, nil
}

// usage makes an error of a file a usage error.
func usage(flag string, err error) error {
	if err == nil {
		return nil
	}
	return usagef("%s: %v", flag, err)
}

// readFile reads a file of at most most bytes, or standard input for -.
func (a *app) readFile(flag, path string, most int) ([]byte, error) {
	source := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usage(flag, err)
		}
		defer f.Close() //nolint:errcheck // only read from
		source = f
	}
	raw, err := io.ReadAll(io.LimitReader(source, int64(most)+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(raw) > most {
		return nil, usagef("%s: %s is larger than %d bytes", flag, path, most)
	}
	return raw, nil
}

func (a *app) provenanceCommand() *cobra.Command {
	var (
		parameters, dependencies, byproducts []string
		shared                               signFlags
	)
	cmd := &cobra.Command{
		Use:   "provenance IMAGE",
		Short: "Attest how an image was built, from the caller's identity token",
		Long: "Has the service attest SLSA provenance v1: builder, source, workflow and\n" +
			"invocation are what the identity token in COUNTERSIGN_TOKEN says. Parameters\n" +
			"that the token does not say are added and lower the build level.",
		Args: exactArgs("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			request := api.ProvenanceRequest{Image: args[0], Key: shared.key, Recursive: shared.recursive, Formats: shared.formats}
			if request.ExternalParameters, err = externalParameters(parameters); err != nil {
				return err
			}
			if request.ResolvedDependencies, err = a.descriptors("--resolved-dependencies", dependencies); err != nil {
				return err
			}
			if request.Byproducts, err = a.descriptors("--byproducts", byproducts); err != nil {
				return err
			}
			if shared.async {
				operation, err := client.StartProvenance(cmd.Context(), request, shared.options)
				return a.begun(operation, err)
			}
			attestation, _, err := client.Provenance(cmd.Context(), request, shared.options)
			if err != nil {
				return a.unfinished(err)
			}
			return a.printAttestation(attestation)
		},
	}
	cmd.Flags().StringArrayVar(&parameters, "external-parameter", nil, "name=value that the build was started with and the token does not say; may be repeated")
	cmd.Flags().StringArrayVar(&dependencies, "resolved-dependencies", nil, "file with an in-toto resource descriptor, or a list of them, that the build used; may be repeated")
	cmd.Flags().StringArrayVar(&byproducts, "byproducts", nil, "the same, of what the build made besides the image")
	shared.register(cmd)
	return cmd
}

// descriptors reads files of which each holds a JSON object or a list of them.
// What is in an object is for the service to judge.
func (a *app) descriptors(flag string, files []string) ([]json.RawMessage, error) {
	var all []json.RawMessage
	for _, file := range files {
		raw, err := a.readFile(flag, file, limits.AttestationBody)
		if err != nil {
			return nil, err
		}
		found := []json.RawMessage{raw}
		if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
			found = nil
			err = json.Unmarshal(raw, &found)
		} else if !json.Valid(raw) {
			err = errors.New("not JSON")
		}
		if err != nil {
			return nil, usagef("%s: %s: %v", flag, file, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func externalParameters(args []string) (json.RawMessage, error) {
	values, err := pairs("--external-parameter", args)
	if err != nil || len(values) == 0 {
		return nil, err
	}
	return json.Marshal(values)
}

// unfinished shows the operation of a call that was accepted and goes on by
// itself.
func (a *app) unfinished(err error) error {
	if pending, ok := errors.AsType[*api.PendingError](err); ok {
		return a.begun(pending.Operation, nil)
	}
	return err
}

// begun shows an operation that was accepted; it is pending unless it ended
// already.
func (a *app) begun(operation api.Operation, err error) error {
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
}

func (a *app) printAttestation(s api.Attestation) error {
	return a.print(s, func() string { return a.attestationDetail(s) })
}

func (a *app) attestationDetail(s api.Attestation) string {
	head := fmt.Sprintf("%s\n%s\nsigned by %s, attestation %s", clean(s.Image), clean(s.PredicateType), signerText(s.Signer), s.ID)
	if s.SLSA != nil {
		head += fmt.Sprintf("\nSLSA build level %d", s.SLSA.BuildLevel)
		for _, reason := range s.SLSA.Reasons {
			head += "\n  " + clean(reason)
		}
	}
	return head + "\n\n" + a.itemTable(s.Signatures)
}

func (a *app) attestationsCommand() *cobra.Command {
	cmd := group("attestations", "What was attested about images")
	var filter api.AttestationFilter
	list := listCommand(a, "List attestations, newest first",
		func(ctx context.Context, c *api.Client, o api.ListOptions) (api.AttestationList, error) {
			filter.ListOptions = o
			return c.Attestations(ctx, filter)
		},
		func(l api.AttestationList) string { return l.NextCursor },
		func(l api.AttestationList) string {
			rows := make([][]string, 0, len(l.Items))
			for _, s := range l.Items {
				rows = append(rows, []string{moment(&s.CreatedAt), s.Image, s.PredicateType, signerText(s.Signer), s.ID})
			}
			return a.grid([]string{"TIME", "IMAGE", "PREDICATE TYPE", "SIGNER", "ID"}, rows)
		})
	flags := list.Flags()
	flags.StringVar(&filter.Digest, "digest", "", "only this digest")
	flags.StringVar(&filter.Repository, "repository", "", "only this HOST/REPOSITORY")
	flags.StringVar(&filter.PredicateType, "type", "", "only this predicate type: a URI or a short name")
	flags.StringVar(&filter.Key, "key", "", "only by this key")
	flags.StringVar(&filter.Identity, "certificate-identity", "", "only by certificates of this subject")
	get := oneCommand(a, "get", "Show an attestation",
		func(ctx context.Context, c *api.Client, id string) (api.Attestation, error) {
			return c.Attestation(ctx, id)
		},
		a.attestationDetail)
	get.Use = "get ID"
	cmd.AddCommand(list, get)
	return cmd
}

// itemTable lists signatures or attestations.
func (a *app) itemTable(items []api.SignatureItem) string {
	rows := make([][]string, 0, len(items))
	for _, item := range items {
		index := ""
		if item.LogEntry != nil {
			index = strconv.FormatInt(item.LogEntry.Index, 10)
		}
		rows = append(rows, []string{short(item.Digest), item.Platform, item.Format, index, short(item.Referrer)})
	}
	return a.grid([]string{"DIGEST", "PLATFORM", "FORMAT", "LOG INDEX", "REFERRER"}, rows)
}
