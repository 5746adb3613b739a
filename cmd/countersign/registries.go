package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/countersign/countersign/server/api"
)

func (a *app) registriesCommand() *cobra.Command {
	cmd := group("registries", "Manage the registries that may be contacted")
	cmd.Long = "A registry that is not listed is not contacted, and its images are FAILED."
	cmd.AddCommand(
		listCommand(a, "List registries",
			func(ctx context.Context, c *api.Client, o api.ListOptions) (api.RegistryList, error) {
				return c.Registries(ctx, o)
			},
			func(l api.RegistryList) string { return l.NextCursor },
			func(l api.RegistryList) string { return a.registryTable(l.Items...) }),
		oneCommand(a, "get", "Show a registry",
			func(ctx context.Context, c *api.Client, host string) (api.Registry, error) {
				return c.Registry(ctx, host)
			},
			func(r api.Registry) string { return a.registryTable(r) }),
		a.applyRegistryCommand(), a.checkRegistryCommand(),
		deleteCommand(a, "registries", "Stop contacting a registry",
			func(ctx context.Context, c *api.Client, host string) (int64, error) {
				r, err := c.Registry(ctx, host)
				return r.Revision, err
			}),
	)
	return cmd
}

func (a *app) applyRegistryCommand() *cobra.Command {
	var request api.RegistryRequest
	var path, username, passwordFile, caFile string
	cmd := &cobra.Command{
		Use:   "apply HOST",
		Short: "List a registry, or change how it is used",
		Long: "Takes the whole definition, from flags or from a YAML or JSON file (-f) with the\n" +
			"fields of the API. The password is read from a file.",
		Args: exactArgs("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if path != "" {
				if err := a.decodeFile(path, &request); err != nil {
					return err
				}
			}
			if err := a.fillRegistry(&request, username, passwordFile, caFile); err != nil {
				return err
			}
			current, err := client.Registry(cmd.Context(), args[0])
			revision, err := currentRevision(current, err, func(r api.Registry) int64 { return r.Revision })
			if err != nil {
				return err
			}
			stored, err := client.PutRegistry(cmd.Context(), args[0], request, api.PutOptions{Revision: revision})
			if err != nil {
				return err
			}
			return a.print(stored, func() string { return a.registryTable(stored) })
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&path, "file", "f", "", "file with the definition; - is standard input")
	flags.StringSliceVar(&request.Repositories, "repositories", nil, "patterns of repositories that may be used, such as 'team/**'")
	flags.BoolVar(&request.InsecureHTTP, "insecure-http", false, "speak plain HTTP to it")
	flags.BoolVar(&request.AllowPrivateAddress, "allow-private-address", false, "it may have a private or loopback address")
	flags.StringSliceVar(&request.Mirrors, "mirrors", nil, "listed hosts that hold the same repositories")
	flags.StringVar(&caFile, "ca-bundle", "", "PEM file of certificate authorities to believe instead of the system's")
	flags.StringVar(&username, "username", "", "user name to authenticate with")
	flags.StringVar(&passwordFile, "password-file", "", "file with the password; - is standard input")
	return cmd
}

// fillRegistry adds what flags name by file.
func (a *app) fillRegistry(request *api.RegistryRequest, username, passwordFile, caFile string) error {
	if (username == "") != (passwordFile == "") {
		return usagef("--username and --password-file go together")
	}
	if username != "" {
		password, err := a.readDocument(passwordFile)
		if err != nil {
			return err
		}
		request.Credentials = &api.Credentials{Username: username, Password: strings.TrimRight(string(password), "\r\n")}
	}
	if caFile != "" {
		bundle, err := a.readDocument(caFile)
		if err != nil {
			return err
		}
		request.CABundle = string(bundle)
	}
	return nil
}

// decodeFile reads YAML or JSON with exactly the fields of v.
func (a *app) decodeFile(path string, v any) error {
	raw, err := a.readDocument(path)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(raw, v); err != nil {
		return usagef("%s: %v", path, err)
	}
	return nil
}

func (a *app) checkRegistryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check HOST [REPOSITORY]",
		Short: "Try a registry: reach, credentials, referrers, right to write",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return usagef("want HOST and, if you like, REPOSITORY")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			check, err := client.CheckRegistry(cmd.Context(), args[0], strings.Join(args[1:], ""))
			if err != nil {
				return err
			}
			return a.print(check, func() string {
				out := a.grid([]string{"REACHABLE", "AUTHENTICATED", "REFERRERS", "WRITE"},
					[][]string{{yesNo(check.Reachable), yesNo(check.Authenticated), yesNo(check.Referrers), yesNo(check.Write)}})
				for _, line := range check.Details {
					out += "\n" + clean(line)
				}
				return out
			})
		},
	}
}

func (a *app) registryTable(items ...api.Registry) string {
	rows := make([][]string, 0, len(items))
	for _, r := range items {
		scheme := "https"
		if r.InsecureHTTP {
			scheme = "http"
		}
		rows = append(rows, []string{r.Host, scheme, strings.Join(r.Repositories, " "), yesNo(r.HasCredentials), fmt.Sprint(r.Revision)})
	}
	return a.grid([]string{"HOST", "SCHEME", "REPOSITORIES", "CREDENTIALS", "REVISION"}, rows)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
