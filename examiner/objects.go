package examiner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
)

// What the journal tells the life of: documents by their hash and revision,
// keys by how often they changed, tokens by their being there.
const (
	nounKey   = "key"
	nounToken = "token"
)

func documents() []string {
	return []string{"policy", "grant", "registry", "issuer", "trust-root", "exception"}
}

// state is what one record says an object is from then on.
type state struct {
	exists bool
	// hash and revision are of a document; revision also counts a key's
	// changes.
	hash     string
	revision int64
	roles    string
}

// object is what the journal says of one managed object.
type object struct {
	settled state
	// begun are changes that are allowed and whose end is not told, by request:
	// each may or may not have happened.
	begun map[string]state
}

// object takes in a record about a managed object.
func (p *replay) object(r audit.Record) {
	noun, verb, _ := strings.Cut(r.Action, ".")
	if noun != nounKey && noun != nounToken && !slices.Contains(documents(), noun) || !strings.HasPrefix(r.Resource, noun+"/") {
		return
	}
	if r.Outcome == audit.Denied || verb == "check" {
		return
	}
	o := p.objects[r.Resource]
	if o == nil {
		o = &object{begun: map[string]state{}}
		p.objects[r.Resource] = o
	}
	change := r.RequestID + " " + r.Action
	switch r.Outcome {
	case audit.Allowed:
		if len(o.begun) < maxProblems {
			o.begun[change] = o.settled.after(noun, verb, r)
		}
	case audit.Done:
		delete(o.begun, change)
		o.settled = o.settled.after(noun, verb, r)
	case audit.Failed:
		delete(o.begun, change)
	}
}

// after is the state that a change leads to.
func (s state) after(noun, verb string, r audit.Record) state {
	if verb == "delete" {
		return state{}
	}
	next := state{exists: true, hash: r.Detail["sha256"], roles: r.Detail["roles"]}
	if noun == nounKey {
		next.revision = s.revision + 1
	} else if replaced, err := strconv.ParseInt(r.Detail["replaces"], 10, 64); err == nil {
		next.revision = replaced + 1
	}
	return next
}

// is reports whether found is what s says.
func (s state) is(found state) bool {
	if !s.exists || !found.exists {
		return s.exists == found.exists
	}
	// An older program's first token was journalled without its roles.
	return s.hash == found.hash && s.revision == found.revision && (s.roles == "" || s.roles == found.roles)
}

// may reports whether an object may be what was found: what was settled, or
// what changes without an end would have made of it.
func (o *object) may(found state) bool {
	if o.settled.is(found) {
		return true
	}
	for _, s := range o.begun {
		if s.is(found) {
			return true
		}
	}
	// Of a key only the number of changes is told.
	return found.hash == "" && found.revision > o.settled.revision && found.revision <= o.settled.revision+int64(len(o.begun))
}

// objects holds the managed objects, tokens and keys against the journal. An
// older version that was put back is found here, however valid it is: its
// revision and its hash are not the last that the journal tells of.
func (e *examination) objects(ctx context.Context) error {
	met := map[string]bool{}
	for _, noun := range append(documents(), nounToken) {
		if err := e.kind(ctx, noun, met); err != nil {
			return err
		}
	}
	if err := e.keyring(ctx, met); err != nil {
		return err
	}
	for _, resource := range slices.Sorted(maps.Keys(e.replay.objects)) {
		if met[resource] || e.Ring == nil && strings.HasPrefix(resource, nounKey+"/") {
			continue
		}
		if !e.replay.objects[resource].may(state{}) {
			e.report.Add(resource, "missing: the audit journal tells of it")
		}
	}
	return nil
}

func (e *examination) kind(ctx context.Context, noun string, met map[string]bool) error {
	page := store.Page{Limit: store.MaxPage}
	for {
		objects, next, err := e.Main.Objects().List(ctx, noun, page)
		if err != nil {
			return err
		}
		for _, o := range objects {
			found := state{exists: true, hash: hex.EncodeToString(sum(o.Body)), revision: o.Revision}
			if noun == nounToken {
				found = state{exists: true, roles: rolesOf(o.Body)}
			}
			e.met(noun+"/"+o.Name, found, met)
		}
		if next == "" {
			return nil
		}
		page.Cursor = next
	}
}

// met holds one object against the journal.
func (e *examination) met(resource string, found state, met map[string]bool) {
	met[resource] = true
	e.report.Counts.Objects++
	o := e.replay.objects[resource]
	switch {
	case o == nil:
		e.report.Add(resource, "no audit record tells of it")
	case !o.may(found) && found.revision > 0:
		e.report.Add(resource, fmt.Sprintf("revision %d is not what the audit journal tells of, which is revision %d", found.revision, o.settled.revision))
	case !o.may(found):
		e.report.Add(resource, "it is not what the audit journal tells of")
	}
}

// rolesOf are the roles in a token's record, as the journal spells them.
func rolesOf(body []byte) string {
	var t struct {
		Roles []string `json:"roles"`
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return "unreadable"
	}
	return strings.Join(t.Roles, " ")
}

// keyring holds the keys for callers against the journal. Their records are
// sealed: the ring refuses an edited one, and the journal knows how often each
// changed, so that an older record that was put back shows.
func (e *examination) keyring(ctx context.Context, met map[string]bool) error {
	if e.Ring == nil {
		return nil
	}
	page := store.Page{}
	for {
		list, next, err := e.Ring.List(ctx, page)
		if errors.Is(err, keys.ErrSealed) {
			e.report.Add("keys", err.Error())
			return nil
		}
		if err != nil {
			return err
		}
		for _, key := range list {
			e.met(nounKey+"/"+key.Name, state{exists: true, revision: key.Revision}, met)
		}
		if next == "" {
			return nil
		}
		page.Cursor = next
	}
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
