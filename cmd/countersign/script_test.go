package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/internal/testauthority"
)

// TestScripts runs testdata/script: each story has a folder, a free address
// ($ADDRESS) for a service, and a registry ($REGISTRY) that holds the images
// app:signed and app:unsigned and the index app:multi.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			registry, err := localregistry.Start(context.Background(), localregistry.Options{})
			if err != nil {
				return err
			}
			env.Defer(func() { registry.Close() })
			for _, tag := range []string{"signed", "unsigned"} {
				if _, err := registry.PushImage(context.Background(), "team/app", tag, tag); err != nil {
					return err
				}
			}
			if _, err := registry.PushIndex(context.Background(), "team/app", "multi", "multi", "amd64", "arm64"); err != nil {
				return err
			}
			address, err := freeAddress()
			env.Setenv("REGISTRY", registry.Host)
			env.Setenv("ADDRESS", address)
			env.Setenv("HOME", env.WorkDir)
			env.Values[scriptCluster{}] = &scriptCluster{}
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await, "eventually": eventually, "exits": exits, "login": useToken, "envsubst": substitute, "pempolicy": pemPolicy, "certificates": certificates,
			"cluster": startCluster, "running": runningPod,
		},
	})
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// await [SCHEME] waits until the service at $ADDRESS is ready.
func await(ts *testscript.TestScript, _ bool, args []string) {
	scheme := firstOf(append(args, "http")...)
	// Whether it answers is asked, not who it is.
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get(scheme + "://" + ts.Getenv("ADDRESS") + "/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	ts.Fatalf("the service at %s is not ready", ts.Getenv("ADDRESS"))
}

// exits CODE PROGRAM ARGS… runs a program that must end with that code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// useToken FILE sets COUNTERSIGN_URL and COUNTERSIGN_TOKEN.
func useToken(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("COUNTERSIGN_URL", "http://"+ts.Getenv("ADDRESS"))
	ts.Setenv("COUNTERSIGN_TOKEN", trimmed(ts.ReadFile(args[0])))
}

func trimmed(s string) string {
	for len(s) > 0 && s[len(s)-1] == '\n' {
		s = s[:len(s)-1]
	}
	return s
}

// substitute FILE… replaces $VARIABLES in files.
func substitute(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(os.Expand(ts.ReadFile(file), ts.Getenv)), 0o600))
	}
}

// pemPolicy KEY FILE writes a policy that demands that public key's signature
// for every image of $REGISTRY.
func pemPolicy(ts *testscript.TestScript, _ bool, args []string) {
	document := fmt.Sprintf(`{"apiVersion": "countersign.dev/v1", "kind": "TrustPolicy", "metadata": {"name": "offline"},
"spec": {"match": {"images": [%q]}, "mode": "enforce", "authorities": {"key": {"key": {"pem": %q}}},
"require": {"all": [{"signature": {"by": "key"}}]}}}`, ts.Getenv("REGISTRY")+"/**", ts.ReadFile(args[0]))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(document), 0o600))
}

// certificates writes what TLS needs: farm.pem, the authority of the server's
// certificate and of a client's, and server, client and stranger, each as .pem
// and .key; the last is of a look-alike authority.
func certificates(ts *testscript.TestScript, _ bool, _ []string) {
	tb := scriptTB{TB: nil, ts: ts}
	farm, other := testauthority.NewClientCA(tb, "farm"), testauthority.NewClientCA(tb, "farm")
	write := func(name string, content []byte) { ts.Check(os.WriteFile(ts.MkAbs(name), content, 0o600)) }
	write("farm.pem", []byte(farm.PEM()))
	for name, pair := range map[string]tls.Certificate{
		"client": farm.Issue(nil), "stranger": other.Issue(nil),
		"server": farm.Issue(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		}),
	} {
		certificate, key := testauthority.PairPEM(tb, pair)
		write(name+".pem", certificate)
		write(name+".key", key)
	}
}

// scriptTB lets helpers of tests end a script.
type scriptTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (scriptTB) Helper() {}

func (t scriptTB) Fatal(args ...any) { t.ts.Fatalf("%s", fmt.Sprint(args...)) }
