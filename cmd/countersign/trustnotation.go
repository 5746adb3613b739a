package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/countersign/countersign/server/api"
)

// exportNotation writes notation's own layout: trustpolicy.json, and a folder
// for each trust store. A policy that is there already is left alone: it may
// hold more than ours.
func (a *app) exportNotation(ctx context.Context, client *api.Client, dir string) error {
	trust, err := client.NotationTrust(ctx)
	if err != nil {
		return err
	}
	for kind, roots := range map[string][]string{"ca": trust.CA, "tsa": trust.TSA} {
		store := filepath.Join(dir, "truststore", "x509", kind, "countersign")
		if err := os.MkdirAll(store, 0o755); err != nil { //nolint:gosec // public material
			return err
		}
		for i, text := range roots {
			path := filepath.Join(store, fmt.Sprintf("root-%d.pem", i+1))
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // public material
				return err
			}
			fmt.Fprintln(a.out, path)
		}
	}
	var policy bytes.Buffer
	if err := json.Indent(&policy, trust.TrustPolicy, "", "  "); err != nil {
		return err
	}
	policy.WriteByte('\n')
	path := filepath.Join(dir, "trustpolicy.json")
	// notation refuses a policy that others may write to.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		fmt.Fprintln(a.err, path+" is there already and was left as it is: name the stores ca:countersign and tsa:countersign in it")
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(policy.Bytes()); err != nil {
		return errors.Join(err, f.Close())
	}
	fmt.Fprintln(a.out, path)
	return f.Close()
}
