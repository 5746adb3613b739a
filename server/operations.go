package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/signer"
)

// maxWatch bounds one event stream; a client that still cares connects again
// with Last-Event-ID.
const maxWatch = 10 * time.Minute

type eventsInput struct {
	IDInput
	LastEventID string `header:"Last-Event-ID" maxLength:"32" doc:"Id of the last event seen."`
}

// streamOutput is an answer written piece by piece.
type streamOutput struct{ Body func(huma.Context) }

func (s *Server) operationRoutes() {
	register(s, huma.Operation{
		OperationID: "getOperation", Method: http.MethodGet, Path: "/v1/operations/{id}", Tags: []string{"Sign"},
		Summary: "Get an operation",
	}, s.getOperation)
	register(s, huma.Operation{
		OperationID: "watchOperation", Method: http.MethodGet, Path: "/v1/operations/{id}/events", Tags: []string{"Sign"},
		Summary:     "Watch an operation",
		Description: "Server-sent events named operation, each with the whole operation, until it is finished.",
		Responses: map[string]*huma.Response{"200": {Description: "The events.", Content: map[string]*huma.MediaType{
			"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}},
		}}},
	}, s.watchOperation)
}

// operationFor returns an operation to its caller or an auditor. To anybody
// else it does not exist.
func (s *Server) operationFor(ctx context.Context, id string) (signer.Operation, error) {
	op, err := s.cfg.Signer.Operation(ctx, id)
	if err != nil {
		return signer.Operation{}, err
	}
	caller := callerOf(ctx)
	if op.Caller != caller.String() && !caller.Has(identity.Auditor) {
		return signer.Operation{}, signer.ErrNotFound
	}
	return op, nil
}

func (s *Server) getOperation(ctx context.Context, in *IDInput) (*bodyOutput[api.Operation], error) {
	op, err := s.operationFor(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &bodyOutput[api.Operation]{Body: s.operation(ctx, op)}, nil
}

// operation is the wire form. Of a failure only the code is taken: the text is
// the table's, as it would have been answered.
func (s *Server) operation(ctx context.Context, op signer.Operation) api.Operation {
	out := api.Operation{
		ID: op.ID, Kind: op.Kind, State: op.State, Image: op.Image, Caller: op.Caller, Attempts: op.Attempts,
		Result: op.Result, CreatedAt: op.CreatedAt, UpdatedAt: op.UpdatedAt,
		Steps: each(op.Steps, func(step signer.Step) api.OperationStep {
			return api.OperationStep{Name: step.Name, State: step.State, StartedAt: step.StartedAt, FinishedAt: step.FinishedAt}
		}),
	}
	if op.Failure != nil {
		out.Problem = s.rowByCode(op.Failure.Code).problem(requestOf(ctx).id)
	}
	return out
}

// watchOperation sends each state of an operation. Event ids count the states
// of this operation by their steps, so that Last-Event-ID passes over what the
// client has.
func (s *Server) watchOperation(ctx context.Context, in *eventsInput) (*streamOutput, error) {
	if _, err := s.operationFor(ctx, in.ID); err != nil {
		return nil, err
	}
	seen, err := strconv.Atoi(in.LastEventID)
	if err != nil {
		seen = -1
	}
	return &streamOutput{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "text/event-stream")
		hc.SetHeader("X-Accel-Buffering", "no")
		hc.SetStatus(http.StatusOK)
		ctx, cancel := context.WithTimeout(hc.Context(), maxWatch)
		defer cancel()
		// The status is sent: what goes wrong now can only end the stream.
		if err := s.stream(ctx, hc.BodyWriter(), in.ID, seen); err != nil && ctx.Err() == nil {
			s.cfg.Logger.WarnContext(ctx, "event stream ended", "operation", in.ID, "cause", err)
		}
	}}, nil
}

// stream writes events until the operation is finished, with a comment
// whenever nothing else was written for a while.
func (s *Server) stream(ctx context.Context, w io.Writer, id string, seen int) error {
	states := make(chan signer.Operation)
	ended := make(chan error, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		ended <- s.cfg.Signer.Watch(watching, id, func(op signer.Operation) error {
			select {
			case states <- op:
				return nil
			case <-watching.Done():
				return watching.Err()
			}
		})
	}()
	beat := time.NewTicker(s.cfg.Heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case op := <-states:
			err = s.event(ctx, w, op, seen)
		case <-beat.C:
			err = flush(w, []byte(": heartbeat\n\n"))
		case err := <-ended:
			return err
		}
		if err != nil {
			return err
		}
	}
}

// event writes one state unless the client has it.
func (s *Server) event(ctx context.Context, w io.Writer, op signer.Operation, seen int) error {
	id := eventID(op)
	if id <= seen && !op.Finished() {
		return nil
	}
	data, err := encode(s.operation(ctx, op))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "id: %d\nevent: operation\ndata: %s\n\n", id, bytes.TrimSpace(data))
	return flush(w, b.Bytes())
}

// eventID grows with an operation's progress: an attempt may have up to 100
// step changes.
func eventID(op signer.Operation) int {
	id := op.Attempts * 100
	for _, step := range op.Steps {
		id++
		if step.FinishedAt != nil {
			id++
		}
	}
	return id
}

func flush(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return err
	}
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	return nil
}

// encode is JSON as every answer of this API has it.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, errors.Join(errInternal, err)
	}
	return b.Bytes(), nil
}

func typeOf(v any) reflect.Type { return reflect.TypeOf(v) }
