package monitor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// How often a delivery is tried, and the first pause.
const (
	deliveries   = 4
	deliverPause = 200 * time.Millisecond
)

// Webhook delivers alarms and other events as CloudEvents 1.0 in structured mode
// (application/cloudevents+json). A receiver drops what it has by the event's
// id and source.
type Webhook struct {
	url    string
	source string
	client *http.Client
}

// NewWebhook posts to a URL; source is the event's, a URI of the monitor.
func NewWebhook(url, source string) *Webhook {
	return &Webhook{url: url, source: source, client: &http.Client{
		Timeout: limits.MonitorWebhook,
		// The configured place or none.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// event is a CloudEvents 1.0 JSON event.
type event struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            any       `json:"data"`
}

// Deliver returns nil when the receiver answered 2xx. It tries a few times.
func (w *Webhook) Deliver(ctx context.Context, a Alarm) error {
	return w.Send(ctx, Event{ID: a.ID, Type: "log." + string(a.Kind), Subject: a.Origin, Time: a.Time, Data: a})
}

// Event is what else the service tells.
type Event struct {
	// ID tells it apart from every other event.
	ID string
	// Type is told behind dev.countersign, Subject what it is about.
	Type, Subject string
	Time          time.Time
	// Data is encoded as JSON.
	Data any
}

// Send is Deliver for any event.
func (w *Webhook) Send(ctx context.Context, e Event) error {
	body, err := strictjson.Marshal(event{
		SpecVersion: "1.0", ID: e.ID, Source: w.source, Type: "dev.countersign." + e.Type, Subject: e.Subject,
		Time: e.Time, DataContentType: "application/json", Data: e.Data,
	})
	if err != nil {
		return fmt.Errorf("delivering an event: %w", err)
	}
	pause := deliverPause
	for try := range deliveries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return fmt.Errorf("delivering an event: %w", ctx.Err())
			case <-time.After(pause):
			}
			pause *= 2
		}
		if err = w.post(ctx, body); err == nil {
			return nil
		}
	}
	return fmt.Errorf("delivering an event: %w", err)
}

func (w *Webhook) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the receiver answers %d", resp.StatusCode)
	}
	return nil
}
