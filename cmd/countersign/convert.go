package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/policy/convert"
	"github.com/countersign/countersign/server/api"
)

type importFlags struct {
	from    string
	stores  string
	out     string
	apply   bool
	options convert.Options
}

func (a *app) importPoliciesCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import --from KIND FILE…",
		Short: "Convert trust policies of another verifier, with a report for every field",
		Long: "Kinds: " + kinds(convert.ImportKinds()) + ".\n\n" +
			"Each field is exact, narrowed (what came of it admits less) or refused. A policy\n" +
			"that would admit more than its source is not produced. The files are judged\n" +
			"together. Exit code 9 when anything was refused.",
		Example: "  countersign policies import --from clusterimagepolicy cip.yaml --out policies\n" +
			"  countersign policies import --from notation trustpolicy.json --trust-stores ~/.config/notation/truststore",
		RunE: func(cmd *cobra.Command, files []string) error {
			if f.from == "" || len(files) == 0 {
				return usagef("want --from KIND and at least one file (- is standard input)")
			}
			return a.importPolicies(cmd.Context(), f, files)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "whose policies: "+kinds(convert.ImportKinds()))
	flags.StringVar(&f.stores, "trust-stores", "", "notation: the folder truststore, whose certificates the policy names")
	flags.StringVar(&f.out, "out", "", "folder to write policies and trust roots to; nothing there is overwritten")
	flags.BoolVar(&f.apply, "apply", false, "store what was converted, if nothing was refused")
	flags.BoolVar(&f.options.AnySignedNameUnsafe, "any-signed-name-unsafe", false, "policyjson: count signatures whatever image name they claim")
	return cmd
}

func kinds(list []convert.Kind) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ", "), "[]")
}

func (a *app) importPolicies(ctx context.Context, f importFlags, files []string) error {
	documents := make([][]byte, 0, len(files))
	for _, file := range files {
		document, err := a.readDocument(file)
		if err != nil {
			return err
		}
		documents = append(documents, document)
	}
	if f.stores != "" {
		stores, err := readTrustStores(f.stores)
		if err != nil {
			return err
		}
		documents = append(documents, stores)
	}
	result, err := convert.Import(convert.Kind(f.from), documents, f.options)
	if err != nil {
		return usagef("%v", err)
	}
	if err := a.print(result, func() string { return a.importTable(result) }); err != nil {
		return err
	}
	if f.out != "" {
		if err := writeImported(f.out, result); err != nil {
			return err
		}
	}
	if convert.HasRefused(result.Report) {
		return errPartial
	}
	if f.apply {
		return a.applyImported(ctx, result)
	}
	return nil
}

// readTrustStores makes one document of notation's folder of trust stores:
// x509/KIND/NAME/FILE, certificates in PEM or DER.
func readTrustStores(folder string) ([]byte, error) {
	stores := map[string][]string{}
	err := fs.WalkDir(os.DirFS(folder), "x509", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		parts := strings.Split(path, "/")
		if len(parts) != 4 {
			return fmt.Errorf("%s is not at x509/KIND/NAME/FILE", path)
		}
		content, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(path)))
		if err != nil {
			return err
		}
		if c, err := x509.ParseCertificate(content); err == nil {
			content = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		}
		name := parts[1] + ":" + parts[2]
		stores[name] = append(stores[name], string(content))
		return nil
	})
	if err != nil {
		return nil, usagef("--trust-stores: %v", err)
	}
	return strictjson.Marshal(map[string]any{"trustStores": stores})
}

func (a *app) importTable(result convert.Result) string {
	out := a.reportTable(result.Report) + "\n"
	for _, p := range result.Policies {
		out += "\npolicy " + p.Name
	}
	for _, t := range result.TrustRoots {
		out += "\ntrust root " + t.Name
	}
	return out
}

func (a *app) reportTable(report []convert.Line) string {
	rows := make([][]string, 0, len(report))
	for _, l := range report {
		outcome := string(l.Outcome)
		if l.Accepted {
			outcome += " (accepted)"
		}
		rows = append(rows, []string{l.Source, outcome, l.Detail})
	}
	return a.grid([]string{"SOURCE", "OUTCOME", "DETAIL"}, rows)
}

func writeImported(folder string, result convert.Result) error {
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return usagef("%v", err)
	}
	for _, p := range result.Policies {
		document, err := yaml.JSONToYAML(p.JSON)
		if err != nil {
			return fmt.Errorf("encoding policy %s: %w", p.Name, err)
		}
		if err := writeImportedFile(filepath.Join(folder, p.Name+".yaml"), document); err != nil {
			return err
		}
	}
	for _, t := range result.TrustRoots {
		if err := writeImportedFile(filepath.Join(folder, t.Name+".trusted_root.json"), t.JSON); err != nil {
			return err
		}
	}
	return nil
}

// writeImportedFile writes a file that must not be there yet.
func writeImportedFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s is there already", errConflict, path)
	}
	if err != nil {
		return usagef("%v", err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// applyImported stores trust roots before the policies that name them. It
// replaces nothing: what has the name already is a conflict.
func (a *app) applyImported(ctx context.Context, result convert.Result) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	for _, t := range result.TrustRoots {
		if _, err := client.PutTrustRoot(ctx, t.Name, t.JSON, api.PutOptions{}); err != nil {
			return fmt.Errorf("trust root %s: %w", t.Name, err)
		}
		fmt.Fprintf(a.err, "applied trust root %s\n", t.Name)
	}
	for _, p := range result.Policies {
		if _, err := client.PutPolicy(ctx, p.Name, p.JSON, api.PutOptions{}); err != nil {
			return fmt.Errorf("policy %s: %w", p.Name, err)
		}
		fmt.Fprintf(a.err, "applied policy %s\n", p.Name)
	}
	return nil
}

type exportFlags struct {
	to    string
	files []string
	out   string
}

func (a *app) exportPoliciesCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export --to KIND [NAME…]",
		Short: "Write policies for another verifier, with a report for every field",
		Long: "Kinds: " + kinds(convert.ExportKinds()) + ".\n\n" +
			"Takes the policies named, or all of the service, or files (-f). What is written\n" +
			"never admits an image that the policies do not. The document goes to standard\n" +
			"output and the report to standard error; with --out the report is the answer.\n" +
			"Exit code 9 when anything was refused.",
		RunE: func(cmd *cobra.Command, names []string) error {
			if f.to == "" || len(names) > 0 && len(f.files) > 0 {
				return usagef("want --to KIND, and either names or files")
			}
			policies, err := a.policiesToExport(cmd.Context(), f.files, names)
			if err != nil {
				return err
			}
			return a.exportPolicies(f, policies)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "for whom: "+kinds(convert.ExportKinds()))
	flags.StringArrayVarP(&f.files, "file", "f", nil, "YAML or JSON file with a TrustPolicy; may be repeated")
	flags.StringVar(&f.out, "out", "", "file to write the document to, of notation the folder of its configuration; nothing there is overwritten")
	return cmd
}

func (a *app) exportPolicies(f exportFlags, policies []*policy.Policy) error {
	document, report, err := convert.Export(convert.Kind(f.to), policies)
	if err != nil {
		return usagef("%v", err)
	}
	switch {
	case f.out == "":
		fmt.Fprintln(a.err, a.reportTable(report))
		if document != nil {
			_, err = fmt.Fprintln(a.out, string(document))
		}
	case document != nil && convert.Kind(f.to) == convert.Notation:
		err = errors.Join(writeNotation(f.out, document), a.print(report, func() string { return a.reportTable(report) }))
	case document != nil:
		err = writeImportedFile(f.out, append(document, '\n'))
		fallthrough
	default:
		err = errors.Join(err, a.print(report, func() string { return a.reportTable(report) }))
	}
	if err == nil && convert.HasRefused(report) {
		return errPartial
	}
	return err
}

// writeNotation writes an exported document in notation's own layout.
func writeNotation(dir string, document []byte) error {
	var exported struct {
		TrustPolicy json.RawMessage     `json:"trustPolicy"`
		TrustStores map[string][]string `json:"trustStores"`
	}
	if err := strictjson.Unmarshal(document, &exported); err != nil {
		return err
	}
	for name, certificates := range exported.TrustStores {
		kind, name, _ := strings.Cut(name, ":")
		store := filepath.Join(dir, "truststore", "x509", kind, name)
		if err := os.MkdirAll(store, 0o750); err != nil {
			return usagef("%v", err)
		}
		for i, certificate := range certificates {
			if err := writeImportedFile(filepath.Join(store, fmt.Sprintf("root-%d.pem", i+1)), []byte(certificate)); err != nil {
				return err
			}
		}
	}
	return writeImportedFile(filepath.Join(dir, "trustpolicy.json"), append(exported.TrustPolicy, '\n'))
}

func (a *app) policiesToExport(ctx context.Context, files, names []string) ([]*policy.Policy, error) {
	documents := map[string][]byte{}
	var order []string
	keep := func(from string, document []byte) { documents[from], order = document, append(order, from) }
	for _, file := range files {
		document, err := a.readDocument(file)
		if err != nil {
			return nil, err
		}
		keep(file, document)
	}
	if len(files) == 0 {
		client, err := a.client()
		if err != nil {
			return nil, err
		}
		if err := storedPolicies(ctx, client, names, keep); err != nil {
			return nil, err
		}
	}
	policies := make([]*policy.Policy, 0, len(order))
	for _, from := range order {
		p, err := policy.Parse(documents[from])
		if err != nil {
			return nil, usagef("%s: %v", from, err)
		}
		policies = append(policies, p)
	}
	return policies, nil
}

func storedPolicies(ctx context.Context, client *api.Client, names []string, keep func(string, []byte)) error {
	for _, name := range names {
		p, err := client.Policy(ctx, name)
		if err != nil {
			return err
		}
		keep(name, p.Document)
	}
	if len(names) > 0 {
		return nil
	}
	options := api.ListOptions{}
	for {
		page, err := client.Policies(ctx, options)
		if err != nil {
			return err
		}
		for _, p := range page.Items {
			keep(p.Name, p.Document)
		}
		if options.Cursor = page.NextCursor; options.Cursor == "" {
			return nil
		}
	}
}
