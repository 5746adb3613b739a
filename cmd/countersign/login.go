package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/server/api"
)

// login is what `countersign login` keeps: DIR/countersign/login.json, mode
// 0600, where DIR is the user's configuration folder.
type login struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

// maxToken bounds a token read from a file or standard input.
const maxToken = 16 << 10

func (a *app) loginPath() (string, error) {
	dir := a.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := a.getenv("HOME")
		if home == "" {
			return "", errors.New("neither XDG_CONFIG_HOME nor HOME is set")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "countersign", "login.json"), nil
}

// client finds the service: flag, environment, then what login kept. A kept
// token is sent only to the URL it was kept for.
func (a *app) client() (*api.Client, error) {
	kept, err := a.keptLogin()
	if err != nil {
		return nil, err
	}
	url := firstOf(a.url, a.getenv("COUNTERSIGN_URL"), kept.URL)
	if url == "" {
		return nil, usagef("no service named: set COUNTERSIGN_URL and COUNTERSIGN_TOKEN, or run countersign login")
	}
	files := a.tlsFiles()
	transport, err := files.transport()
	if err != nil {
		return nil, err
	}
	token := a.getenv("COUNTERSIGN_TOKEN")
	// A token would be the one that counts: with a certificate, a kept one stays.
	if token == "" && files.certificate == "" && strings.TrimRight(url, "/") == strings.TrimRight(kept.URL, "/") {
		token = kept.Token
	}
	client, err := api.NewClientWith(api.ClientConfig{URL: url, Token: token, Transport: transport, UserAgent: "countersign/" + version})
	if err != nil {
		return nil, usagef("%v", err)
	}
	return client, nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (a *app) keptLogin() (login, error) {
	path, err := a.loginPath()
	if err != nil {
		return login{}, nil //nolint:nilerr // without a home there is no kept login, which is no error
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return login{}, nil
	}
	if err != nil {
		return login{}, fmt.Errorf("reading the kept login: %w", err)
	}
	var kept login
	if err := strictjson.Unmarshal(raw, &kept); err != nil {
		return login{}, usagef("%s: %v; run countersign login again", path, err)
	}
	return kept, nil
}

func (a *app) loginCommand() *cobra.Command {
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Keep the service's URL and a token for later commands",
		Long: "Keeps URL and token in the user's configuration folder, mode 0600. The token is\n" +
			"read from --token-file or from standard input, never from the command line.",
		Args: exactArgs("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := a.readToken(tokenFile)
			if err != nil {
				return err
			}
			transport, err := tlsFiles{authorities: a.tlsFiles().authorities}.transport()
			if err != nil {
				return err
			}
			client, err := api.NewClientWith(api.ClientConfig{URL: args[0], Token: token, Transport: transport, UserAgent: "countersign/" + version})
			if err != nil {
				return usagef("%v", err)
			}
			return a.keepLogin(cmd.Context(), client, login{URL: args[0], Token: token})
		},
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "-", "file that holds the token; - is standard input")
	return cmd
}

func (a *app) readToken(path string) (string, error) {
	source := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", usagef("reading the token: %v", err)
		}
		defer f.Close() //nolint:errcheck // only read from
		source = f
	}
	raw, err := io.ReadAll(io.LimitReader(source, maxToken))
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" {
		return "", usagef("the token is empty")
	}
	return token, nil
}

// keepLogin asks the service who the token is before it keeps anything.
func (a *app) keepLogin(ctx context.Context, client *api.Client, l login) error {
	me, err := client.Me(ctx)
	if err != nil {
		return err
	}
	path, err := a.loginPath()
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encoding the login: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keeping the login: %w", err)
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, encoded, 0o600); err != nil {
		return fmt.Errorf("keeping the login: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("keeping the login: %w", err)
	}
	fmt.Fprintf(a.err, "logged in to %s as %s with roles %s\n", l.URL, me.Subject, strings.Join(me.Roles, ", "))
	return nil
}
