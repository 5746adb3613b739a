package main

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/monitor"
	"github.com/countersign/countersign/trust"
)

// monitoredLogs has the monitor follow the log of --key, or those of the trusted
// root, which is read again for each pass: it names the next shard of a log before
// anything is written there, and where the one before stays.
func (a *app) monitoredLogs(ctx context.Context, f monitorFlags, quorum func([]byte) bool, config *monitor.Config) error {
	client, err := a.monitorClient()
	if err != nil {
		return err
	}
	if f.key != "" {
		verifier, err := logVerifier(f.key, f.origin)
		if err != nil {
			return err
		}
		log := monitored(client, f, verifier, "")
		log.Quorum = quorum
		config.Logs = []monitor.Log{log}
		return nil
	}
	document, err := a.auditRoot(ctx, auditFlags{url: f.url, root: f.root})
	if err != nil {
		return err
	}
	r := &rootLogs{app: a, flags: f, client: client, quorum: quorum}
	if err := r.take(document); err != nil {
		return err
	}
	config.Find = r.find
	return nil
}

// rootLogs are the logs of a trusted root that may change.
type rootLogs struct {
	app    *app
	flags  monitorFlags
	client *http.Client
	quorum func([]byte) bool
	logs   []monitor.Log
}

// find reads the trusted root again. One that cannot be read or used changes
// nothing: the logs that were known are followed.
func (r *rootLogs) find(ctx context.Context) ([]monitor.Log, error) {
	document, err := r.read(ctx)
	if err == nil {
		err = r.take(document)
	}
	if err != nil {
		r.app.logger("info", "text").WarnContext(ctx, "the trusted root cannot be read again; following the logs of the last one", "cause", err)
	}
	return slices.Clone(r.logs), nil
}

func (r *rootLogs) read(ctx context.Context) ([]byte, error) {
	if r.flags.root != "" {
		return os.ReadFile(r.flags.root)
	}
	client, err := r.app.stranger(r.flags.url)
	if err != nil {
		return nil, err
	}
	return client.TrustedRoot(ctx)
}

// take follows what a trusted root names. Logs that it names no more are followed
// on: who serves a log must not end its being watched.
func (r *rootLogs) take(document []byte) error {
	parsed, err := trust.ParseTrustedRoot(document)
	if err != nil {
		return usagef("trusted root: %v", err)
	}
	var logs []monitor.Log
	for _, log := range parsed.Logs {
		if r.flags.origin != "" && r.flags.origin != log.Origin {
			continue
		}
		verifier, err := tlog.NewCheckpointVerifier(log.Origin, log.Public)
		if err != nil {
			return usagef("trusted root: %v", err)
		}
		base, err := url.Parse(log.BaseURL)
		if err != nil {
			return usagef("trusted root: %v", err)
		}
		followed := monitored(r.client, r.flags, verifier, base.Path)
		followed.Quorum = r.quorum
		logs = append(logs, followed)
	}
	for _, known := range r.logs {
		if !slices.ContainsFunc(logs, func(l monitor.Log) bool { return l.Name() == known.Name() && l.KeyHash() == known.KeyHash() }) {
			logs = append(logs, known)
		}
	}
	if len(logs) == 0 {
		return usagef("the trusted root names no such log")
	}
	r.logs = logs
	return nil
}

// monitored is a log under a path of each URL: shards have one.
func monitored(client *http.Client, f monitorFlags, verifier note.Verifier, path string) monitor.Log {
	at := func(base string) monitor.Source {
		place := strings.TrimSuffix(base, "/") + strings.TrimSuffix(path, "/")
		return monitor.Source{URL: place, Fetch: monitor.FetchURL(client, place)}
	}
	log := monitor.Log{Verifier: verifier, Source: at(f.url)}
	for _, other := range f.also {
		log.Also = append(log.Also, at(other))
	}
	return log
}
