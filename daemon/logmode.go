package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store"
)

// The object that remembers whether the log is read-only.
const (
	logModeKind = "log"
	logModeName = "mode"
)

// openLogMode takes up what an operator had set before the last stop.
func (d *Daemon) openLogMode(ctx context.Context, _ *services) error {
	mode, err := d.LogMode(ctx)
	if err != nil {
		return err
	}
	d.log.SetReadOnly(mode.ReadOnly)
	if mode.ReadOnly {
		d.cfg.Logger.WarnContext(ctx, "the log is read-only: nothing is signed until countersign log read-only off", "reason", mode.Reason)
	}
	return nil
}

// LogMode is whether the log takes entries, as it was set last.
func (d *Daemon) LogMode(ctx context.Context) (api.LogMode, error) {
	mode, _, err := d.readLogMode(ctx)
	return mode, err
}

func (d *Daemon) readLogMode(ctx context.Context) (mode api.LogMode, revision int64, err error) {
	stored, err := d.main.Objects().Get(ctx, logModeKind, logModeName)
	if errors.Is(err, store.ErrNotFound) {
		return api.LogMode{}, 0, nil
	}
	if err == nil {
		err = strictjson.Unmarshal(stored.Body, &mode)
	}
	if err != nil {
		return api.LogMode{}, 0, fmt.Errorf("reading whether the log is read-only: %w", err)
	}
	return mode, stored.Revision, nil
}

// SetLogMode remembers a mode and brings it into force.
func (d *Daemon) SetLogMode(ctx context.Context, mode api.LogMode) (api.LogMode, error) {
	_, revision, err := d.readLogMode(ctx)
	if err != nil {
		return api.LogMode{}, err
	}
	mode.Since = d.cfg.Clock.Now().UTC()
	body, err := strictjson.Marshal(mode)
	if err != nil {
		return api.LogMode{}, err
	}
	object := store.Object{Kind: logModeKind, Name: logModeName, Revision: revision, Body: body}
	if _, err := d.main.Objects().Put(ctx, object); err != nil {
		return api.LogMode{}, fmt.Errorf("keeping whether the log is read-only: %w", err)
	}
	d.log.SetReadOnly(mode.ReadOnly)
	return mode, nil
}
