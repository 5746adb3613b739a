package monitor

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/tlog"
)

// ErrWatch says that a watch file is malformed or watches nothing.
var ErrWatch = errors.New("invalid watch file")

// Watch says who may sign. Where something is expected, everything else is an
// alarm; what is forbidden is one always.
//
//	identities:
//	  expected:
//	    - issuer: https://token.actions.githubusercontent.com
//	      subjectRegexp: https://github\.com/acme/[a-z-]+/\.github/workflows/release\.yml@refs/heads/main
//	  forbidden:
//	    - issuer: https://accounts.example.com
//	      subject: former.employee@example.com
//	keys:
//	  expected:
//	    - 32f3…
//
// identities are those of certificates, keys those of entries without one: the
// hexadecimal SHA-256 of the SubjectPublicKeyInfo.
type Watch struct {
	identities, barred []holder
	keys, barredKeys   []string
}

// holder is one rule: an issuer, compared exactly, and the whole subject.
type holder struct {
	issuer, subject string
	pattern         *regexp.Regexp
}

func (h holder) match(who identity.Holder) bool {
	if who.Issuer != h.issuer {
		return false
	}
	if h.pattern != nil {
		return h.pattern.MatchString(who.Subject)
	}
	return who.Subject == h.subject
}

type wireWatch struct {
	Identities struct {
		Expected  []wireHolder `json:"expected,omitempty"`
		Forbidden []wireHolder `json:"forbidden,omitempty"`
	} `json:"identities,omitzero"`
	Keys struct {
		Expected  []string `json:"expected,omitempty"`
		Forbidden []string `json:"forbidden,omitempty"`
	} `json:"keys,omitzero"`
}

type wireHolder struct {
	Issuer        string `json:"issuer"`
	Subject       string `json:"subject,omitempty"`
	SubjectRegexp string `json:"subjectRegexp,omitempty"`
}

// ParseWatch reads a watch file, YAML or JSON. Unknown and duplicate fields, and
// a file without any rule, are ErrWatch.
func ParseWatch(raw []byte) (*Watch, error) {
	if len(raw) > limits.MonitorWatch {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrWatch, limits.MonitorWatch)
	}
	document, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWatch, err)
	}
	var wire wireWatch
	if err := errors.Join(strictjson.NoNull(document), strictjson.Unmarshal(document, &wire)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWatch, err)
	}
	w := &Watch{keys: wire.Keys.Expected, barredKeys: wire.Keys.Forbidden}
	if w.identities, err = holders(wire.Identities.Expected); err != nil {
		return nil, err
	}
	if w.barred, err = holders(wire.Identities.Forbidden); err != nil {
		return nil, err
	}
	for _, id := range slices.Concat(w.keys, w.barredKeys) {
		if sum, err := hex.DecodeString(id); err != nil || len(sum) != sha256.Size || hex.EncodeToString(sum) != id {
			return nil, fmt.Errorf("%w: %q is no key id, 64 lower-case hexadecimal digits", ErrWatch, id)
		}
	}
	if n := len(w.identities) + len(w.barred) + len(w.keys) + len(w.barredKeys); n == 0 || n > limits.MonitorRules {
		return nil, fmt.Errorf("%w: want 1 to %d rules", ErrWatch, limits.MonitorRules)
	}
	return w, nil
}

func holders(wire []wireHolder) ([]holder, error) {
	out := make([]holder, 0, len(wire))
	for _, h := range wire {
		if h.Issuer == "" || (h.Subject == "") == (h.SubjectRegexp == "") {
			return nil, fmt.Errorf("%w: an identity needs an issuer and one of subject and subjectRegexp", ErrWatch)
		}
		rule := holder{issuer: h.Issuer, subject: h.Subject}
		if h.SubjectRegexp != "" {
			if len(h.SubjectRegexp) > limits.Pattern {
				return nil, fmt.Errorf("%w: subjectRegexp longer than %d bytes", ErrWatch, limits.Pattern)
			}
			var err error
			// Whole strings only: an unanchored pattern is somebody else's
			// identity with ours inside (row E2). It is compiled alone first, so
			// that it cannot close the group.
			if _, err = regexp.Compile(h.SubjectRegexp); err == nil {
				rule.pattern, err = regexp.Compile(`\A(?:` + h.SubjectRegexp + `)\z`)
			}
			if err != nil {
				return nil, fmt.Errorf("%w: subjectRegexp: %w", ErrWatch, err)
			}
		}
		out = append(out, rule)
	}
	return out, nil
}

// judge looks at one entry. nil when there is nothing to say.
func (w *Watch) judge(entry []byte) *Alarm {
	body, err := tlog.ParseBody(entry)
	if err != nil {
		return &Alarm{Kind: UnreadableEntry, Detail: err.Error()}
	}
	if body.Certificate != nil {
		return w.judgeHolder(body.Certificate)
	}
	der, err := x509.MarshalPKIXPublicKey(body.PublicKey)
	if err != nil {
		return &Alarm{Kind: UnreadableEntry, Detail: err.Error()}
	}
	sum := sha256.Sum256(der)
	id := hex.EncodeToString(sum[:])
	switch {
	case slices.Contains(w.barredKeys, id):
		return &Alarm{Kind: ForbiddenKey, KeyID: id, Detail: "a forbidden key signed"}
	case len(w.keys) > 0 && !slices.Contains(w.keys, id):
		return &Alarm{Kind: UnexpectedKey, KeyID: id, Detail: "a key signed that is not expected"}
	}
	return nil
}

func (w *Watch) judgeHolder(certificate *x509.Certificate) *Alarm {
	who, err := identity.ParseHolder(certificate)
	if err != nil {
		return &Alarm{Kind: UnreadableEntry, Detail: "the certificate names nobody: " + err.Error()}
	}
	is := func(h holder) bool { return h.match(who) }
	switch {
	case slices.ContainsFunc(w.barred, is):
		return &Alarm{Kind: ForbiddenIdentity, Issuer: who.Issuer, Subject: who.Subject, Detail: "a forbidden identity signed"}
	case len(w.identities) > 0 && !slices.ContainsFunc(w.identities, is):
		return &Alarm{Kind: UnexpectedIdentity, Issuer: who.Issuer, Subject: who.Subject, Detail: "an identity signed that is not expected"}
	}
	return nil
}
