package signer_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
)

// TestSeal: no field of a kept operation can change without its seal.
func TestSeal(t *testing.T) {
	at := time.Date(2026, 11, 20, 10, 0, 0, 1, time.UTC)
	op := store.Operation{
		ID: "1", Kind: "signature", Scope: "s", IdempotencyKey: "k", RequestHash: []byte{1}, State: "done", Repository: "r",
		Digest: "d", Signer: "release", PredicateType: "t", Body: []byte("{}"), Result: []byte("{}"), CreatedAt: at, UpdatedAt: at,
	}
	want, err := signer.Seal(op)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*store.Operation){
		"id": func(o *store.Operation) { o.ID = "2" }, "kind": func(o *store.Operation) { o.Kind = "attestation" },
		"scope": func(o *store.Operation) { o.Scope = "" }, "key": func(o *store.Operation) { o.IdempotencyKey = "" },
		"hash": func(o *store.Operation) { o.RequestHash = nil }, "state": func(o *store.Operation) { o.State = "pending" },
		"repository": func(o *store.Operation) { o.Repository = "x" }, "digest": func(o *store.Operation) { o.Digest = "x" },
		"signer": func(o *store.Operation) { o.Signer = "x" }, "type": func(o *store.Operation) { o.PredicateType = "x" },
		"body": func(o *store.Operation) { o.Body = []byte("[]") }, "result": func(o *store.Operation) { o.Result = nil },
		"created": func(o *store.Operation) { o.CreatedAt = at.Add(1) }, "updated": func(o *store.Operation) { o.UpdatedAt = at.Add(1) },
		"moved": func(o *store.Operation) { o.Scope, o.IdempotencyKey = "sk", "" },
	} {
		changed := op
		change(&changed)
		if got, err := signer.Seal(changed); err != nil || got == want {
			t.Errorf("%s: the seal stayed (%v)", name, err)
		}
	}
	if again, _ := signer.Seal(op); again != want {
		t.Error("the seal of one operation differs")
	}
}
