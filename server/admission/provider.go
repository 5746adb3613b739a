package admission

import (
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/verifier"
)

// externaldata.gatekeeper.sh/v1beta1, which Gatekeeper speaks since 3.11.
const (
	providerVersion      = "externaldata.gatekeeper.sh/v1beta1"
	providerRequestKind  = "ProviderRequest"
	providerResponseKind = "ProviderResponse"
)

// Key is one image that a constraint asks about: a reference, or
// `[namespace]reference` as Ratify's templates write it.
type Key struct {
	// Text is the key as it was sent.
	Text      string
	Namespace string
	Reference string
}

func parseKey(text string) (Key, error) {
	rest, prefixed := strings.CutPrefix(text, "[")
	if !prefixed {
		return Key{Text: text, Reference: text}, nil
	}
	namespace, reference, closed := strings.Cut(rest, "]")
	if !closed {
		return Key{}, fault("body.request.keys", "want REFERENCE or [NAMESPACE]REFERENCE")
	}
	return Key{Text: text, Namespace: namespace, Reference: reference}, nil
}

// ParseProviderRequest reads a ProviderRequest strictly and returns its keys,
// each once.
func ParseProviderRequest(body []byte) ([]Key, error) {
	var wire struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Request    struct {
			Keys []string `json:"keys"`
		} `json:"request"`
	}
	if err := strictjson.Unmarshal(body, &wire); err != nil {
		return nil, unreadable(err)
	}
	if wire.APIVersion != providerVersion || wire.Kind != providerRequestKind {
		return nil, fault("body", "want a ProviderRequest of "+providerVersion)
	}
	var keys []Key
	seen := map[string]bool{}
	for _, text := range wire.Request.Keys {
		if seen[text] {
			continue
		}
		seen[text] = true
		key, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 || len(keys) > limits.Images {
		return nil, fault("body.request.keys", fmt.Sprintf("want 1 to %d images", limits.Images))
	}
	return keys, nil
}

// Groups are the keys by namespace, in order of appearance: each group is one
// question.
func Groups(keys []Key) [][]Key {
	var groups [][]Key
	for _, k := range keys {
		i := slices.IndexFunc(groups, func(g []Key) bool { return g[0].Namespace == k.Namespace })
		if i < 0 {
			groups = append(groups, []Key{k})
			continue
		}
		groups[i] = append(groups[i], k)
	}
	return groups
}

// ProviderResponse is what goes back. Gatekeeper remembers an item for minutes,
// with its error, and a systemError never: what was decided is an item, and of
// what could not be decided there is none.
type ProviderResponse struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Response   ProviderBody `json:"response"`
}

// ProviderBody is its content. Gatekeeper mutates only with what is idempotent.
type ProviderBody struct {
	Idempotent  bool   `json:"idempotent"`
	Items       []Item `json:"items"`
	SystemError string `json:"systemError,omitempty"`
}

// Item is the answer to one key: a value or an error.
type Item struct {
	Key   string `json:"key"`
	Value any    `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
}

// Verdict is the value of an item that PASSED.
type Verdict struct {
	Verdict  policy.Verdict `json:"verdict"`
	Pinned   string         `json:"pinned"`
	Digest   string         `json:"digest"`
	Warnings []string       `json:"warnings,omitempty"`
}

// Render makes the item of a key that was decided.
type Render func(Key, verifier.Result) Item

// ValueItem tells a verdict to Gatekeeper's validation.
func ValueItem(k Key, r verifier.Result) Item {
	if r.Verdict != policy.Passed {
		return Item{Key: k.Text, Error: cut(plain(failure(r)), maxMessage)}
	}
	return Item{Key: k.Text, Value: Verdict{Verdict: r.Verdict, Pinned: Pinned(k.Reference, r.Digest), Digest: r.Digest, Warnings: Warnings(r.Warnings)}}
}

// PinItem tells Gatekeeper's mutation the reference to put in the place of the
// key's.
func PinItem(k Key, r verifier.Result) Item {
	if r.Verdict != policy.Passed {
		return Item{Key: k.Text, Error: cut(plain(failure(r)), maxMessage)}
	}
	if r.Digest == "" {
		return Item{Key: k.Text, Error: "the image has no digest to be pinned to"}
	}
	return Item{Key: k.Text, Value: Pinned(k.Reference, r.Digest)}
}

// Provided answers keys by the results, which are by key text.
func Provided(keys []Key, results map[string]verifier.Result, render Render) ProviderResponse {
	items := []Item{}
	var undecided []string
	for _, k := range keys {
		r, known := results[k.Text]
		switch {
		case !known:
			undecided = append(undecided, k.Text+": no verdict")
		case Undecided(r):
			undecided = append(undecided, failure(r))
		default:
			items = append(items, render(k, r))
		}
	}
	out := provider(items)
	if len(undecided) > 0 {
		out.Response.SystemError = cut(plain("could not be decided: "+strings.Join(undecided, "; ")), maxMessage)
	}
	return out
}

// NotProvided refuses a request that was not judged.
func NotProvided(code, message string) ProviderResponse {
	out := provider([]Item{})
	out.Response.SystemError = cut(plain(message+" ("+code+")"), maxMessage)
	return out
}

func provider(items []Item) ProviderResponse {
	return ProviderResponse{
		APIVersion: providerVersion, Kind: providerResponseKind,
		Response: ProviderBody{Idempotent: true, Items: items},
	}
}
