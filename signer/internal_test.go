package signer

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzStoredDocument: what is read from the store is written back the same, so
// that taking an operation up and keeping it changes none of its bytes.
func FuzzStoredDocument(f *testing.F) {
	f.Add([]byte(`{"caller":{"issuer":"local","subject":"ci"},"request":{"image":"a.b/c:1","key":"k"},"image":"a.b/c:1","steps":[]}`))
	f.Add([]byte(`{"keyId":"00","targets":[{"id":"1","digest":"sha256:00","format":"bundle","payload":"e30=","entry":{"a":1},"bundle":{}}]}`))
	f.Add([]byte(`{"targets":[{"annotations":{"a":"b"}}],"failure":{"code":"x","detail":"y"},"stampedAt":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := parseDocument(b)
		if err != nil {
			if !errors.Is(err, ErrInternal) {
				t.Fatal(err)
			}
			return
		}
		written, err := first.marshal()
		if err != nil {
			t.Fatal(err)
		}
		second, err := parseDocument(written)
		if err != nil {
			t.Fatal(err)
		}
		again, err := second.marshal()
		if err != nil || string(again) != string(written) {
			t.Fatalf("%s\n%s\n%v", written, again, err)
		}
	})
}

// TestEveryFaultHasOneCode: codes are stable words, each error has one.
func TestEveryFaultHasOneCode(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range faults() {
		if f.code == "" || seen[f.code] {
			t.Errorf("code %q of %v is empty or used twice", f.code, f.err)
		}
		seen[f.code] = true
		if got := Code(f.err); got != f.code && !errors.Is(f.err, ErrRequest) {
			t.Errorf("Code(%v) = %s, want %s", f.err, got, f.code)
		}
	}
}

func TestSafeDetailKeepsCausesBack(t *testing.T) {
	secret := errors.New("https://user:secret@10.0.0.1/")
	for _, f := range faults() {
		if got := safeDetail(errors.Join(f.err, secret)); got != f.err.Error() {
			t.Errorf("detail %q", got)
		}
	}
	if got := safeDetail(secret); got != ErrInternal.Error() {
		t.Errorf("detail of an unknown cause: %q", got)
	}
}

func TestRetriesBackOffWithinBounds(t *testing.T) {
	r := newRetries(time.Millisecond, 8*time.Millisecond)
	for attempts, want := range map[int]time.Duration{0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 8, 1 << 30: 8} {
		if got := r.pause(attempts); got != want*time.Millisecond {
			t.Errorf("after %d attempts: %v", attempts, got)
		}
	}
	r.schedule("a", 1)
	r.schedule("a", 1)
	r.schedule("b", 1)
	r.drop("b")
	<-r.wake
	if diff := cmp.Diff([]string{"a"}, r.due()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string(nil), r.due(), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestKeyedLock(t *testing.T) {
	l := keyedLock{held: map[string]*keyHolder{}}
	counts := map[string]*int{"a": new(int), "b": new(int)}
	var group sync.WaitGroup
	for name, count := range counts {
		for range 50 {
			group.Go(func() {
				unlock, err := l.lock(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				defer unlock()
				*count++
			})
		}
	}
	group.Wait()
	if *counts["a"] != 50 || *counts["b"] != 50 || len(l.held) != 0 {
		t.Errorf("%d, %d, %d names left", *counts["a"], *counts["b"], len(l.held))
	}
	unlock, err := l.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.lock(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting after the end: %v", err)
	}
	unlock()
	if len(l.held) != 0 {
		t.Error("a name is left")
	}
}

func TestRequestHashIsOfItsMeaning(t *testing.T) {
	base := Request{Image: "a.b/c:1", Key: "k", Formats: []string{"bundle"}}
	hash := func(r Request) string {
		b, err := r.hash()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, change := range map[string]func(*Request){
		"image":       func(r *Request) { r.Image = "a.b/c:2" },
		"key":         func(r *Request) { r.Key = "other" },
		"annotations": func(r *Request) { r.Annotations = map[string]string{"a": "b"} },
		"recursive":   func(r *Request) { r.Recursive = true },
		"formats":     func(r *Request) { r.Formats = []string{"legacy"} },
	} {
		r := base
		change(&r)
		if hash(r) == hash(base) {
			t.Errorf("%s is not in the hash", name)
		}
	}
	keyed := base
	keyed.IdempotencyKey = "x"
	if hash(keyed) != hash(base) {
		t.Error("the idempotency key is in the hash")
	}
	if b, _ := json.Marshal(keyed); string(b) != `{"image":"a.b/c:1","key":"k","formats":["bundle"]}` {
		t.Errorf("the wire form is %s", b)
	}
}
