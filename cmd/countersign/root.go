package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/server/api"
)

// streams are the process's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// app is what every command has in hand.
type app struct {
	streams
	getenv func(string) string
	clock  clock.Clock
	format string
	url    string
	// tls are the files of a private TLS set-up.
	tls tlsFiles
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, s streams, getenv func(string) string) int {
	a := &app{streams: s, getenv: getenv, clock: clock.System{}}
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errFailed) {
		a.complain(err)
	}
	return exitCode(err)
}

// complain prints what went wrong and, for a problem document, its code,
// fields and request id, so that a person can act and an operator can find it.
func (a *app) complain(err error) {
	var problem *api.Problem
	if !errors.As(err, &problem) {
		fmt.Fprintf(a.err, "countersign: %v\n", err)
		return
	}
	fmt.Fprintf(a.err, "countersign: %s: %s\n", problem.Code, problem.Detail)
	for _, field := range problem.Errors {
		fmt.Fprintf(a.err, "  %s: %s\n", field.Location, field.Detail)
	}
	if problem.Instance != "" {
		fmt.Fprintf(a.err, "  request %s\n", problem.Instance)
	}
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "countersign",
		Short:         "Sign container images and say which may run",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          holdOnly,
		Long: "Countersign signs container images, records every signature in its own\n" +
			"transparency log, and says whether an image may run.\n\n" +
			"`countersign demo` shows the whole job; `countersign serve` is the service.\n" +
			"Client commands find it by COUNTERSIGN_URL and COUNTERSIGN_TOKEN, or by what\n" +
			"`countersign login` kept.",
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	flags := root.PersistentFlags()
	flags.StringVarP(&a.format, "output", "o", "table", "form of the answer: table, json or yaml")
	flags.StringVar(&a.url, "url", "", "the service's URL (COUNTERSIGN_URL)")
	flags.StringVar(&a.tls.certificate, "client-cert", "", "PEM file with a client certificate to authenticate with (COUNTERSIGN_CLIENT_CERT)")
	flags.StringVar(&a.tls.key, "client-key", "", "PEM file with its private key (COUNTERSIGN_CLIENT_KEY)")
	flags.StringVar(&a.tls.authorities, "cacert", "", "PEM file of certificate authorities to believe for the service instead of the system's (COUNTERSIGN_CACERT)")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return checkFormat(a.format) }
	root.AddCommand(
		a.serveCommand(), a.witnessCommand(), a.demoCommand(), a.loginCommand(),
		a.signCommand(), a.attestCommand(), a.provenanceCommand(), a.verifyCommand(), a.verifyBlobCommand(), a.scanCommand(), a.conformanceCommand(), a.operationCommand(),
		a.keysCommand(), a.registriesCommand(), a.policiesCommand(), a.exceptionsCommand(), a.grantsCommand(), a.issuersCommand(), a.trustRootsCommand(), a.tokensCommand(),
		a.attestationsCommand(), a.artifactsCommand(), a.decisionsCommand(), a.forecastCommand(), a.auditCommand(),
		a.logCommand(), a.authoritiesCommand(), a.trustCommand(), a.doctorCommand(),
		a.backupCommand(), a.restoreCommand(), a.admissionCommand(), a.replicaCommand(), a.containerdVerifierCommand(),
		&cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodesHelp},
	)
	return root
}

// group is a command that only holds others: alone it shows what it holds, and
// a name it does not hold is a usage error.
func group(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: holdOnly}
}

func holdOnly(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s has no command %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return cmd.Help()
}

// usagef makes an error that ends with exit code 2.
func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, args...))
}

// exactArgs is cobra.ExactArgs with our exit code and the argument's name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usagef("want %d argument(s): %v", len(names), names)
		}
		return nil
	}
}
