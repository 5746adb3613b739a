package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/countersign/countersign/cluster"
	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/server/api"
)

// Exit codes. Pipelines retry 6 and never 3.
const (
	exitDone       = 0
	exitUnexpected = 1
	exitUsage      = 2
	exitFailed     = 3
	exitNotAllowed = 4
	exitNotFound   = 5
	exitUndecided  = 6
	exitConflict   = 7
	exitPending    = 8
	exitPartial    = 9
	exitCodesHelp  = `0  done, or the verdict is PASSED
1  unexpected error
2  usage: a flag, an argument or a file is wrong
3  the verdict is FAILED
4  not authenticated, or not allowed
5  not found
6  could not be decided: network, registry or server; worth a retry
7  conflict: it exists already, or changed since it was read
8  pending: accepted, not finished yet
9  in part: something of what was to be converted was refused
`
)

var (
	// errUsage is wrapped by complaints about flags, arguments and files.
	errUsage = errors.New("usage")
	// errFailed says that the verdict, already printed, is FAILED.
	errFailed = errors.New("verdict FAILED")
	// errUndecided says that an image could not be judged.
	errUndecided = errors.New("could not be decided")
	// errConflict says that something is there already, or is not what it was.
	errConflict = errors.New("conflict")
	// errPending says that an operation was accepted and is not finished.
	errPending = errors.New("pending")
	// errPartial says that a conversion, already printed, refused something.
	errPartial = errors.New("not everything could be converted: see the lines that were refused")
)

// exitCode turns an error into the code the process ends with.
func exitCode(err error) int {
	var problem *api.Problem
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errUsage), errors.Is(err, errConfig):
		return exitUsage
	case errors.Is(err, errFailed):
		return exitFailed
	case errors.Is(err, errPartial):
		return exitPartial
	case errors.Is(err, errPending):
		return exitPending
	case errors.Is(err, errNotGranted), errors.Is(err, cluster.ErrForbidden):
		return exitNotAllowed
	case errors.Is(err, daemon.ErrInUse), errors.Is(err, errConflict):
		return exitConflict
	case errors.As(err, &problem):
		return problemExit(problem.Status)
	case errors.Is(err, errUndecided), errors.Is(err, api.ErrServer), errors.Is(err, context.DeadlineExceeded):
		return exitUndecided
	default:
		return exitUnexpected
	}
}

func problemExit(status int) int {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return exitNotAllowed
	case status == http.StatusNotFound:
		return exitNotFound
	case status == http.StatusConflict, status == http.StatusPreconditionFailed, status == http.StatusPreconditionRequired:
		return exitConflict
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return exitUndecided
	default:
		return exitUsage
	}
}
