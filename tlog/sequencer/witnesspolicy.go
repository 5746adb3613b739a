package sequencer

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	formatsnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/limits"
)

// ErrWitnessPolicy says that a witness policy is malformed or counts a witness
// twice.
var ErrWitnessPolicy = errors.New("invalid witness policy")

// Signature types of witnesses' keys (C2SP tlog-cosignature).
const (
	cosignatureEd25519 = 0x04
	cosignatureMLDSA   = 0x06
)

// WitnessPolicy says who must cosign a checkpoint: a C2SP tlog-policy,
//
//	witness X1 <vkey> https://x1.example.com
//	witness X2 <vkey> https://x2.example.com
//	witness Y <vkey> https://y.example.org
//	group X any X1 X2
//	group both all X Y
//	quorum both
type WitnessPolicy struct {
	witnesses []witnessEntry
	quorum    tessera.WitnessGroup
}

// witnessEntry is one witness.
type witnessEntry struct {
	name, url string
	verifier  note.Verifier
	key       string
}

// ParseWitnessPolicy reads a policy. It is stricter than the storage driver's
// parser, which would count one key under two names twice, and a threshold of
// none as met: keys and URLs are named once, each member of a group once and in
// one group only, thresholds are 1 to the number of members, and there is one
// quorum. A witness needs a URL, since it is asked; names are ASCII. Lines with a
// log are passed over. Every failure is ErrWitnessPolicy.
func ParseWitnessPolicy(raw []byte) (*WitnessPolicy, error) {
	if len(raw) > limits.WitnessPolicy {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrWitnessPolicy, limits.WitnessPolicy)
	}
	p := policyParser{members: map[string]bool{}}
	for i, line := range strings.Split(string(raw), "\n") {
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrWitnessPolicy, i+1, err)
		}
	}
	if p.quorum == "" {
		return nil, fmt.Errorf("%w: no quorum", ErrWitnessPolicy)
	}
	group, err := tessera.NewWitnessGroupFromPolicy(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWitnessPolicy, err)
	}
	return &WitnessPolicy{witnesses: p.witnesses, quorum: group}, nil
}

// Satisfied reports whether a checkpoint, a signed note, carries the quorum's
// cosignatures. It says nothing about the log's own signature.
func (p *WitnessPolicy) Satisfied(checkpoint []byte) bool { return p.quorum.Satisfied(checkpoint) }

// policyParser holds what earlier lines defined. members are the names: true
// once a group has it.
type policyParser struct {
	members   map[string]bool
	witnesses []witnessEntry
	groups    int
	quorum    string
}

func (p *policyParser) line(line string) error {
	trimmed := strings.Trim(line, " \t")
	if trimmed == "" || trimmed[0] == '#' {
		return nil
	}
	// The driver cuts a line at any #; here it is part of a word.
	bad := func(r rune) bool { return r == '#' || r > '~' || r < ' ' && r != '\t' }
	if strings.IndexFunc(trimmed, bad) >= 0 {
		return errors.New("only printable ASCII without # is read outside of comments")
	}
	fields := strings.Fields(trimmed)
	switch fields[0] {
	case "log":
		return nil
	case "witness":
		return p.witness(fields[1:])
	case "group":
		return p.group(fields[1:])
	case "quorum":
		return p.setQuorum(fields[1:])
	}
	return fmt.Errorf("%q is neither witness, group, quorum nor log", fields[0])
}

// define takes a new name.
func (p *policyParser) define(name string) error {
	if _, taken := p.members[name]; taken || slices.Contains([]string{"witness", "group", "any", "all", "none", "quorum", "log"}, name) {
		return fmt.Errorf("the name %q is taken", name)
	}
	if len(name) > limits.Name {
		return fmt.Errorf("a name is longer than %d bytes", limits.Name)
	}
	p.members[name] = false
	return nil
}

func (p *policyParser) witness(fields []string) error {
	if len(fields) != 3 || len(p.witnesses) == limits.Witnesses {
		return fmt.Errorf("want: witness NAME VKEY URL, at most %d of them", limits.Witnesses)
	}
	if err := p.define(fields[0]); err != nil {
		return err
	}
	verifier, key, err := witnessKey(fields[1])
	if err != nil {
		return err
	}
	base, err := url.Parse(fields[2])
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || base.User != nil || base.RawQuery != "" {
		return fmt.Errorf("the URL of %s is none of a witness: want http(s)://HOST[/PATH]", fields[0])
	}
	entry := witnessEntry{name: fields[0], url: base.JoinPath("/add-checkpoint").String(), verifier: verifier, key: key}
	for _, other := range p.witnesses {
		if other.key == key || other.url == entry.url {
			return fmt.Errorf("%s and %s have one key or one URL", other.name, entry.name)
		}
	}
	p.witnesses = append(p.witnesses, entry)
	return nil
}

// witnessKey reads a witness's verifier key, whose id the driver does not check.
func witnessKey(vkey string) (note.Verifier, string, error) {
	parts := strings.SplitN(vkey, "+", 3)
	verifier, err := formatsnote.NewVerifierForCosignatureV1(vkey)
	if err != nil || len(parts) != 3 {
		return nil, "", fmt.Errorf("not the key of a witness: %w", err)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || (key[0] != cosignatureEd25519 && key[0] != cosignatureMLDSA) {
		return nil, "", errors.New("not the key of a witness: its type is no cosignature's")
	}
	if id, err := strconv.ParseUint(parts[1], 16, 32); err != nil || uint32(id) != verifier.KeyHash() {
		return nil, "", errors.New("not the key of a witness: its id is another key's")
	}
	return verifier, string(key), nil
}

func (p *policyParser) group(fields []string) error {
	if len(fields) < 3 || p.groups == limits.WitnessGroups {
		return fmt.Errorf("want: group NAME (any|all|NUMBER) MEMBER…, at most %d of them", limits.WitnessGroups)
	}
	name, threshold, members := fields[0], fields[1], fields[2:]
	if threshold != "any" && threshold != "all" {
		n, err := strconv.Atoi(threshold)
		if err != nil || strconv.Itoa(n) != threshold || n < 1 || n > len(members) {
			return fmt.Errorf("the threshold of %s: want any, all, or 1 to %d", name, len(members))
		}
	}
	for _, member := range members {
		if taken, defined := p.members[member]; !defined || taken {
			return fmt.Errorf("%q is not defined above, or is in a group already", member)
		}
		p.members[member] = true
	}
	p.groups++
	return p.define(name)
}

func (p *policyParser) setQuorum(fields []string) error {
	if len(fields) != 1 || p.quorum != "" {
		return errors.New("want one line: quorum NAME")
	}
	if _, defined := p.members[fields[0]]; !defined {
		return fmt.Errorf("%q is not defined above; without a quorum there is nothing to configure", fields[0])
	}
	p.quorum = fields[0]
	return nil
}
