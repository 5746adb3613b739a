package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/token"
	"github.com/countersign/countersign/store"
)

const (
	adminTokenFile = "admin.token"
	adminTokenName = "admin"
	// setupKind and setupName mark a database whose first start is complete.
	setupKind = "setup"
	setupName = "admin-token"
	// ownerName says whose data folder an external database belongs to.
	ownerName = "owner"
)

// ensureAdmin makes the first administrator's token, once in the life of a
// database. The mark is written last: a start that died before it makes a new
// token in place of the one nobody has seen.
func (d *Daemon) ensureAdmin(ctx context.Context, tokens *token.Tokens, journal *audit.Journal) error {
	objects := d.main.Objects()
	_, err := objects.Get(ctx, setupKind, setupName)
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("reading the setup mark: %w", err)
	}
	_, err = journal.Append(ctx, audit.Record{
		Actor: "first start", Action: "token.create", Resource: "token/" + adminTokenName, Outcome: audit.Allowed,
		Detail: map[string]string{"roles": string(identity.Admin)},
	})
	if err != nil {
		return fmt.Errorf("journalling the administrator's token: %w", err)
	}
	if err := tokens.Revoke(ctx, adminTokenName); err != nil && !errors.Is(err, token.ErrNotFound) {
		return fmt.Errorf("replacing an unread administrator's token: %w", err)
	}
	secret, _, err := tokens.Create(ctx, adminTokenName, []identity.Role{identity.Admin}, nil)
	if err != nil {
		return fmt.Errorf("making the administrator's token: %w", err)
	}
	if err := writeFile(d.path(adminTokenFile), []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the administrator's token: %w", err)
	}
	_, err = objects.Put(ctx, store.Object{Kind: setupKind, Name: setupName, Body: []byte("{}")})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("writing the setup mark: %w", err)
	}
	return nil
}

// writeFile replaces a file in one step, durably.
func writeFile(path string, content []byte, mode os.FileMode) error {
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, writeErr := f.Write(content)
	if err := errors.Join(writeErr, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}
