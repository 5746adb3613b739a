package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/trust/tuf"
)

// ceremonyHelp explains the commands that work on a data folder, not on a URL:
// whoever changes the root of trust sits at the machine.
const ceremonyHelp = `The commands with --data-dir work on the data folder, also while a service runs
on it, and hold no private key. The service publishes what they prepare within
seconds.

  countersign trust keygen alice.key            each holder, on their own machine
  countersign trust init --data-dir DATA --threshold 2 \
      --root-key alice.pub --root-key bob.pub --root-key carol.pub
  countersign trust pending --data-dir DATA > root.json
  countersign trust sign --key alice.key root.json > alice.json
  countersign trust import --data-dir DATA alice.json bob.json
  countersign trust status --data-dir DATA
`

// ceremonyCommands are the commands of the TUF repository.
func (a *app) ceremonyCommands() []*cobra.Command {
	return []*cobra.Command{
		a.trustStatusCommand(), a.trustInitCommand(), a.trustRotateCommand(), a.trustPendingCommand(),
		a.trustSignCommand(), a.trustImportCommand(), a.trustDiscardCommand(), a.trustKeygenCommand(),
	}
}

// dataDirFlag is the one flag of all commands that work on a folder.
func dataDirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "data-dir", "countersign-data", "data folder of the service (COUNTERSIGN_DATA_DIR)")
}

// withFolder opens the TUF repository of a data folder.
func (a *app) withFolder(cmd *cobra.Command, dir string, do func(*tuf.Folder) error) error {
	if fromEnv := a.getenv("COUNTERSIGN_DATA_DIR"); fromEnv != "" && !cmd.Flags().Changed("data-dir") {
		dir = fromEnv
	}
	folder, err := tuf.OpenFolder(filepath.Join(dir, "tuf"))
	if errors.Is(err, os.ErrNotExist) {
		return usagef("%s holds no TUF repository; start the service on it once, or name another folder with --data-dir", dir)
	}
	if err != nil {
		return err
	}
	defer folder.Close() //nolint:errcheck // nothing is written through it
	return ceremonyError(do(folder))
}

// ceremonyError gives the errors of a ceremony their exit codes.
func ceremonyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tuf.ErrDraft):
		return fmt.Errorf("%w: %w", errConflict, err)
	case errors.Is(err, tuf.ErrKey), errors.Is(err, tuf.ErrRole), errors.Is(err, tuf.ErrThreshold),
		errors.Is(err, tuf.ErrDocument), errors.Is(err, tuf.ErrSignature), errors.Is(err, tuf.ErrEmpty):
		return usagef("%v", err)
	}
	return err
}

func (a *app) trustStatusCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the TUF repository: versions, expiry, keys, what waits for signatures",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withFolder(cmd, dir, func(f *tuf.Folder) error {
				status, err := f.Status(a.clock.Now())
				if err != nil {
					return err
				}
				return a.print(status, func() string { return a.statusTable(status) })
			})
		},
	}
	dataDirFlag(cmd, &dir)
	return cmd
}

func (a *app) statusTable(s tuf.Status) string {
	rows := make([][]string, 0, len(s.Roles))
	for _, r := range s.Roles {
		state := "ok"
		if r.Attention {
			state = "RUNS OUT"
		}
		rows = append(rows, []string{string(r.Role), strconv.FormatInt(r.Version, 10), moment(&r.Expires), fmt.Sprintf("%d of %d", r.Threshold, len(r.Keys)), keyList(r.Keys), state})
	}
	out := a.grid([]string{"ROLE", "VERSION", "EXPIRES", "THRESHOLD", "KEYS", ""}, rows)
	for _, d := range s.Drafts {
		out += "\n\n" + a.draftText(d)
	}
	if len(s.Requested) > 0 {
		out += fmt.Sprintf("\n\nnew keys are asked for: %v", s.Requested)
	}
	return out
}

func keyList(keys []tuf.KeyStatus) string {
	texts := make([]string, 0, len(keys))
	for _, k := range keys {
		where := "offline"
		if k.Online {
			where = "online"
		}
		texts = append(texts, short(k.ID)+" "+where)
	}
	return strings.Join(texts, ", ")
}

// draftText says what is missing.
func (a *app) draftText(d tuf.Draft) string {
	out := fmt.Sprintf("draft of %s %d, valid until %s", d.Role, d.Version, moment(&d.Expires))
	for _, n := range d.Needs {
		out += fmt.Sprintf("\n  %d of %d signatures that root %d asks for", min(len(n.SignedBy), n.Threshold), n.Threshold, n.Root)
		if !n.Met() && len(n.SignedBy)+n.Online >= n.Threshold {
			out += "; the service adds its own"
		} else if !n.Met() {
			ids := make([]string, 0, len(n.Missing))
			for _, id := range n.Missing {
				ids = append(ids, short(id))
			}
			out += "; any of " + strings.Join(ids, ", ")
		}
	}
	if d.Complete() {
		out += "\n  complete: the service publishes it"
	}
	return out
}

// keysFlags describe the keys of a role.
type keysFlags struct {
	add, remove []string
	threshold   int
}

func (k keysFlags) change(role tuf.Role, replace bool) (tuf.Change, error) {
	c := tuf.Change{Role: role, Replace: replace, Remove: k.remove, Threshold: k.threshold}
	for _, path := range k.add {
		text, err := os.ReadFile(path)
		if err != nil {
			return c, usagef("%v", err)
		}
		pub, err := tuf.ParsePublicKey(text)
		if err != nil {
			return c, usagef("%s: %v", path, err)
		}
		c.Add = append(c.Add, pub)
	}
	return c, nil
}

const defaultRootTerm = 365 * 24 * time.Hour

func (a *app) trustInitCommand() *cobra.Command {
	var dir string
	var root, targets keysFlags
	var term time.Duration
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Take the root of trust offline: draft a root with your own keys",
		Long: "Drafts a root in which the root role has the given keys instead of the service's.\n" +
			"It is published once enough of them have signed it.\n\n" + ceremonyHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(root.add) == 0 {
				return usagef("--root-key: name the public key of each holder")
			}
			if root.threshold < 1 {
				return usagef("--threshold: say how many of the %d root keys must sign", len(root.add))
			}
			changes, err := initChanges(root, targets)
			if err != nil {
				return err
			}
			return a.propose(cmd, dir, term, changes...)
		},
	}
	dataDirFlag(cmd, &dir)
	flags := cmd.Flags()
	flags.StringArrayVar(&root.add, "root-key", nil, "file with a holder's public key (PEM); repeat for each")
	flags.IntVar(&root.threshold, "threshold", 0, "how many root keys must sign")
	flags.StringArrayVar(&targets.add, "targets-key", nil, "take targets offline too: every change of the trusted root then needs signatures")
	flags.IntVar(&targets.threshold, "targets-threshold", 1, "how many targets keys must sign")
	flags.DurationVar(&term, "valid-for", defaultRootTerm, "how long the root is valid")
	return cmd
}

func initChanges(root, targets keysFlags) ([]tuf.Change, error) {
	change, err := root.change(tuf.Root, true)
	if err != nil || len(targets.add) == 0 {
		return []tuf.Change{change}, err
	}
	second, err := targets.change(tuf.Targets, true)
	return []tuf.Change{change, second}, err
}

func (a *app) propose(cmd *cobra.Command, dir string, term time.Duration, changes ...tuf.Change) error {
	return a.withFolder(cmd, dir, func(f *tuf.Folder) error {
		draft, err := f.Propose(cmd.Context(), a.clock.Now(), term, changes...)
		if err != nil {
			return err
		}
		return a.print(draft, func() string { return a.draftText(draft) })
	})
}

func (a *app) trustRotateCommand() *cobra.Command {
	var dir string
	var k keysFlags
	var term time.Duration
	cmd := &cobra.Command{
		Use:   "rotate ROLE…",
		Short: "Replace keys of roles: root, targets, snapshot, timestamp",
		Long: "Without key flags, asks the service for new keys of its own in the roles. With\n" +
			"them, or with --renew, drafts a root for one role, root or targets, whose keys are\n" +
			"offline. Where root keys are offline, either is published once they have signed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("want one or more of root, targets, snapshot, timestamp")
			}
			roles := make([]tuf.Role, 0, len(args))
			for _, arg := range args {
				role, err := tuf.ParseRole(arg)
				if err != nil {
					return usagef("%v", err)
				}
				roles = append(roles, role)
			}
			renew, err := cmd.Flags().GetBool("renew")
			if err != nil {
				return err
			}
			online, err := cmd.Flags().GetBool("online")
			if err != nil {
				return err
			}
			if online && (renew || len(k.add)+len(k.remove) > 0 || k.threshold != 0) {
				return usagef("--online goes with no other key flag")
			}
			if !renew && len(k.add)+len(k.remove) == 0 && k.threshold == 0 {
				return a.requestKeys(cmd, dir, online, roles)
			}
			if len(roles) != 1 {
				return usagef("key flags and --renew go with one role")
			}
			change, err := k.change(roles[0], false)
			if err != nil {
				return err
			}
			return a.propose(cmd, dir, term, change)
		},
	}
	dataDirFlag(cmd, &dir)
	flags := cmd.Flags()
	flags.StringArrayVar(&k.add, "add-key", nil, "file with a public key (PEM) to add")
	flags.StringArrayVar(&k.remove, "remove-key", nil, "id of a key to remove, at least its first 8 digits")
	flags.IntVar(&k.threshold, "threshold", 0, "how many keys must sign from now on")
	flags.Bool("online", false, "have one new key of the service take the place of all keys of the roles, offline or lost")
	flags.Bool("renew", false, "draft a root with the same keys and a new expiry")
	flags.DurationVar(&term, "valid-for", defaultRootTerm, "how long the root is valid")
	return cmd
}

func (a *app) requestKeys(cmd *cobra.Command, dir string, online bool, roles []tuf.Role) error {
	return a.withFolder(cmd, dir, func(f *tuf.Folder) error {
		ask := f.Request
		if online {
			ask = f.RequestOnline
		}
		if err := ask(cmd.Context(), roles...); err != nil {
			return err
		}
		fmt.Fprintf(a.err, "asked for new keys of %v; see countersign trust status\n", roles)
		return nil
	})
}

func (a *app) trustPendingCommand() *cobra.Command {
	var dir string
	var payload bool
	cmd := &cobra.Command{
		Use:   "pending [root|targets]",
		Short: "Print the draft that waits for signatures, to sign elsewhere",
		RunE: func(cmd *cobra.Command, args []string) error {
			role, err := draftRole(args)
			if err != nil {
				return err
			}
			return a.withFolder(cmd, dir, func(f *tuf.Folder) error {
				draft, err := f.Draft(role)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.err, a.draftText(draft))
				content := draft.Document
				if payload {
					content = draft.Payload
				}
				_, err = a.out.Write(content)
				return err
			})
		},
	}
	dataDirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&payload, "payload", false, "print the bytes that signatures are made over, for other tools")
	return cmd
}

func draftRole(args []string) (tuf.Role, error) {
	if len(args) == 0 {
		return tuf.Root, nil
	}
	role, err := tuf.ParseRole(args[0])
	if err != nil || len(args) > 1 || role != tuf.Root && role != tuf.Targets {
		return "", usagef("want root or targets")
	}
	return role, nil
}

func (a *app) trustSignCommand() *cobra.Command {
	var keyPath string
	cmd := &cobra.Command{
		Use:   "sign --key FILE DOCUMENT",
		Short: "Sign a root or targets document with an offline key (needs no service)",
		Args:  exactArgs("DOCUMENT"),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := readPrivateKey(keyPath)
			if err != nil {
				return err
			}
			document, err := a.readDocument(args[0])
			if err != nil {
				return err
			}
			signed, err := tuf.Sign(document, key)
			if err != nil {
				return ceremonyError(err)
			}
			if err := a.explain(signed); err != nil {
				return err
			}
			_, err = a.out.Write(signed)
			return err
		},
	}
	cmd.Flags().StringVar(&keyPath, "key", "", "file with the private key (PKCS #8 PEM)")
	return cmd
}

// explain tells the holder of a key what was signed: a signature is given to
// what a document says, not to a file name.
func (a *app) explain(document []byte) error {
	var doc struct {
		Signed struct {
			Type    string    `json:"_type"`
			Version int64     `json:"version"`
			Expires time.Time `json:"expires"`
			Roles   map[string]struct {
				KeyIDs    []string `json:"keyids"`
				Threshold int      `json:"threshold"`
			} `json:"roles"`
			Targets map[string]struct {
				Hashes map[string]string `json:"hashes"`
			} `json:"targets"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return fmt.Errorf("reading the document: %w", err)
	}
	s := doc.Signed
	fmt.Fprintf(a.err, "signed %s %d, valid until %s\n", clean(s.Type), s.Version, moment(&s.Expires))
	for _, role := range tuf.Roles() {
		if r, ok := s.Roles[string(role)]; ok {
			ids := make([]string, 0, len(r.KeyIDs))
			for _, id := range r.KeyIDs {
				ids = append(ids, short(id))
			}
			fmt.Fprintf(a.err, "  %-10s %d of %s\n", role, r.Threshold, strings.Join(ids, ", "))
		}
	}
	for name, target := range s.Targets {
		fmt.Fprintf(a.err, "  %s sha256:%s\n", clean(name), clean(target.Hashes["sha256"]))
	}
	return nil
}

func (a *app) trustImportCommand() *cobra.Command {
	var dir, keyPath, signaturePath, roleName string
	cmd := &cobra.Command{
		Use:   "import FILE… | import --public-key FILE --signature FILE",
		Short: "Bring signatures back: signed documents, or one raw signature",
		Long: "Files are copies of the draft with signatures, as trust sign makes them. A raw\n" +
			"signature is one that another tool made over `trust pending --payload`: ECDSA P-256\n" +
			"with SHA-256 in ASN.1 DER, such as openssl dgst -sha256 -sign or a PKCS #11 token\n" +
			"make it, or Ed25519.",
		RunE: func(cmd *cobra.Command, args []string) error {
			raw := keyPath != "" || signaturePath != ""
			if raw == (len(args) > 0) || raw && (keyPath == "" || signaturePath == "") {
				return usagef("name signed documents, or both --public-key and --signature")
			}
			role, err := draftRole([]string{roleName})
			if err != nil {
				return err
			}
			return a.withFolder(cmd, dir, func(f *tuf.Folder) error {
				draft, err := tuf.Draft{}, error(nil)
				if raw {
					draft, err = importRaw(cmd, f, role, keyPath, signaturePath)
				}
				for _, path := range args {
					if draft, err = a.importFile(cmd, f, path); err != nil {
						break
					}
				}
				if err != nil {
					return err
				}
				return a.print(draft, func() string { return a.draftText(draft) })
			})
		},
	}
	dataDirFlag(cmd, &dir)
	flags := cmd.Flags()
	flags.StringVar(&keyPath, "public-key", "", "file with the public key (PEM) of a raw signature")
	flags.StringVar(&signaturePath, "signature", "", "file with the raw signature")
	flags.StringVar(&roleName, "role", "root", "what a raw signature is over: root or targets")
	return cmd
}

func (a *app) importFile(cmd *cobra.Command, f *tuf.Folder, path string) (tuf.Draft, error) {
	document, err := a.readDocument(path)
	if err != nil {
		return tuf.Draft{}, err
	}
	draft, err := f.Import(cmd.Context(), document)
	if err != nil {
		return draft, fmt.Errorf("%s: %w", path, err)
	}
	return draft, nil
}

func importRaw(cmd *cobra.Command, f *tuf.Folder, role tuf.Role, keyPath, signaturePath string) (tuf.Draft, error) {
	text, err := os.ReadFile(keyPath)
	if err != nil {
		return tuf.Draft{}, usagef("%v", err)
	}
	pub, err := tuf.ParsePublicKey(text)
	if err != nil {
		return tuf.Draft{}, err
	}
	signature, err := os.ReadFile(signaturePath)
	if err != nil {
		return tuf.Draft{}, usagef("%v", err)
	}
	return f.ImportSignature(cmd.Context(), role, pub, signature)
}

func (a *app) trustDiscardCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "discard [root|targets]",
		Short: "Drop a draft and the signatures it has",
		RunE: func(cmd *cobra.Command, args []string) error {
			role, err := draftRole(args)
			if err != nil {
				return err
			}
			return a.withFolder(cmd, dir, func(f *tuf.Folder) error { return f.Discard(cmd.Context(), role) })
		},
	}
	dataDirFlag(cmd, &dir)
	return cmd
}
