package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

// maxDocument bounds a document read from a file or standard input.
const maxDocument = 1 << 20

// page flags are the same for every list.
func pageFlags(cmd *cobra.Command, options *api.ListOptions) {
	cmd.Flags().IntVar(&options.Limit, "limit", 0, "items to show, at most 200")
	cmd.Flags().StringVar(&options.Cursor, "cursor", "", "where the page before ended")
}

// listCommand shows a page: fetch gets it, table says what a person reads.
func listCommand[T any](a *app, short string, fetch func(context.Context, *api.Client, api.ListOptions) (T, error), next func(T) string, table func(T) string) *cobra.Command {
	var options api.ListOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			list, err := fetch(cmd.Context(), client, options)
			if err != nil {
				return err
			}
			if cursor := next(list); cursor != "" {
				fmt.Fprintf(a.err, "there is more: --cursor %s\n", cursor)
			}
			return a.print(list, func() string { return table(list) })
		},
	}
	pageFlags(cmd, &options)
	return cmd
}

// oneCommand does something with one named object and shows it.
func oneCommand[T any](a *app, use, short string, do func(context.Context, *api.Client, string) (T, error), table func(T) string) *cobra.Command {
	return &cobra.Command{
		Use:   use + " NAME",
		Short: short,
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			object, err := do(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			return a.print(object, func() string { return table(object) })
		},
	}
}

// deleteCommand removes one named object, whatever its revision is now.
func deleteCommand(a *app, collection, short string, revision func(context.Context, *api.Client, string) (int64, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: short,
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			current, err := revision(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			if err := client.Delete(cmd.Context(), collection, args[0], api.PutOptions{Revision: current}); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "deleted %s\n", args[0])
			return nil
		},
	}
}

// currentRevision is the object's revision, or 0 when there is none yet.
func currentRevision[T any](object T, err error, revision func(T) int64) (int64, error) {
	var problem *api.Problem
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return revision(object), nil
}

// readDocument reads a file, or standard input for -.
func (a *app) readDocument(path string) ([]byte, error) {
	source := a.in
	switch path {
	case "":
		return nil, usagef("-f: name a file, or - for standard input")
	case "-":
	default:
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("%v", err)
		}
		defer f.Close() //nolint:errcheck // only read from
		source = f
	}
	raw, err := io.ReadAll(io.LimitReader(source, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(raw) > maxDocument {
		return nil, usagef("%s is larger than %d bytes", path, maxDocument)
	}
	return raw, nil
}
