package predicate

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kinds is a set of JSON types.
type kinds uint8

const (
	aText kinds = 1 << iota
	aNumber
	aBoolean
	anArray
	anObject
)

func (k kinds) String() string {
	names := []string{"a text", "a number", "true or false", "a list", "an object"}
	var out []string
	for i, name := range names {
		if k&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, " or ")
}

// rule is what one value of a document must be. Rules are built for one check
// and not changed by it.
type rule struct {
	// kinds may stand here; null may always, and is as if nothing stood here.
	kinds kinds
	// want completes "want …" in a fault.
	want string
	// value judges the text of a string or number that is not empty.
	value func(string) bool
	// members are an object's known members.
	members map[string]member
	// folded maps known names in lower case to the names.
	folded map[string]string
	// each is the rule of a list's items, or of an object's members that
	// are not known.
	each *rule
	// pair judges a member of a map by its name and its text; it names what
	// is wanted.
	pair func(name, value string) (want string)
	// filled makes an empty list or object count as absent.
	filled bool
	// blank makes an empty text count as present.
	blank bool
	// dense refuses members of a map that are null or empty, as items of a
	// list always are.
	dense bool
	// title is the member whose text speaks for the object, in items and whole.
	title string
	// items judges a list by the texts of its items, or their titles; it
	// names the item at fault.
	items func([]string) (at int, problem string)
	// whole judges an object by what it holds, after all members were judged.
	whole func(held, note)
}

// note takes a fault of a member, or of the object itself when name is empty.
type note func(name, problem string)

type member struct {
	name     string
	rule     *rule
	bit      uint64
	required bool
	// keep makes the member's text known to whole.
	keep bool
}

// held is what an object holds.
type held struct {
	rule  *rule
	bits  uint64
	texts map[string]string
}

// has reports whether a member is there, not null, and not an empty string.
func (h held) has(name string) bool { return h.bits&h.rule.members[name].bit != 0 }

func need(name string, r *rule) member { return member{name: name, rule: r, required: true} }
func may(name string, r *rule) member  { return member{name: name, rule: r} }

func (m member) kept() member {
	m.keep = true
	return m
}

// object is an object with these known members, at most 64, and any others.
func object(members ...member) *rule {
	r := &rule{kinds: anObject, want: "an object", members: map[string]member{}, folded: map[string]string{}}
	r.add(members...)
	return r
}

// add makes members known. A rule that holds itself is built with it.
func (r *rule) add(members ...member) {
	for _, m := range members {
		m.bit = 1 << len(r.members)
		r.members[m.name] = m
		r.folded[strings.ToLower(m.name)] = m.name
	}
}

// list is a list of items.
func list(each *rule) *rule { return &rule{kinds: anArray, want: "a list", each: each} }

// some is a list or object that is not empty.
func some(r *rule) *rule {
	filled := *r
	filled.filled, filled.want = true, r.want+" that is not empty"
	return &filled
}

// table is an object whose members all follow one rule, whatever their name.
func table(each *rule) *rule { return &rule{kinds: anObject, want: "an object", each: each} }

func anything() *rule {
	return &rule{kinds: aText | aNumber | aBoolean | anArray | anObject, want: "a value", blank: true}
}

func text() *rule    { return &rule{kinds: aText, want: "a text"} }
func boolean() *rule { return &rule{kinds: aBoolean, want: "true or false"} }

// line is a text that may be empty, as an argument of a command is.
func line() *rule { return &rule{kinds: aText, want: "a text", blank: true} }

// form is a text of some form.
func form(want string, ok func(string) bool) *rule {
	return &rule{kinds: aText, want: want, value: ok}
}

func oneOf(words ...string) *rule {
	return form("one of "+strings.Join(words, ", "), func(s string) bool { return slices.Contains(words, s) })
}

func prefixed(prefix string) *rule {
	return form("a text that begins with "+prefix, func(s string) bool { return strings.HasPrefix(s, prefix) && s != prefix })
}

// uri is a URI with a scheme (RFC 3986, section 3). Characters that should be
// escaped are passed over, except those that would break a line or a field.
func uri() *rule { return form("a URI with a scheme, such as https:, git+https: or pkg:", isURI) }

func isURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || rest == "" || scheme == "" || !isLetter(scheme[0]) {
		return false
	}
	for i := range len(scheme) {
		if c := scheme[i]; !isLetter(c) && (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	return !strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// moment is a time. An empty text is none: readers of protobuf's JSON mapping
// refuse it.
func moment() *rule {
	r := form("a time as RFC 3339 has it, such as 2026-01-02T15:04:05Z", func(s string) bool {
		_, err := time.Parse(time.RFC3339, s)
		return err == nil
	})
	r.blank = true
	return r
}

// integer is a whole number of at least least.
func integer(least int64) *rule {
	return &rule{kinds: aNumber, want: "a whole number of at least " + strconv.FormatInt(least, 10), value: func(s string) bool {
		n, err := strconv.ParseInt(s, 10, 64)
		return err == nil && n >= least
	}}
}

// digests is in-toto's DigestSet (spec/v1/digest_set.md): for the algorithms
// that are known there, lower-case hexadecimal of the right length; for others
// whatever names something.
func digests() *rule {
	r := table(text())
	r.want, r.filled = "an object from algorithms to digests, such as {\"sha256\": \"…\"}", true
	r.pair = func(algorithm, value string) string {
		lengths := digestBytes(algorithm)
		if lengths == nil && digestBytes(strings.ToLower(algorithm)) != nil {
			return "the algorithm written " + strings.ToLower(algorithm)
		}
		if value == "" || algorithm == "" {
			return "an algorithm with its digest"
		}
		if lengths == nil {
			return ""
		}
		if raw, err := hex.DecodeString(value); err != nil || strings.ToLower(value) != value || !slices.Contains(lengths, len(raw)) {
			return strconv.Itoa(2*lengths[0]) + " lower-case hexadecimal digits"
		}
		return ""
	}
	return r
}

// digestBytes are the lengths a digest of a known algorithm may have.
func digestBytes(algorithm string) []int {
	switch algorithm {
	case "md5":
		return []int{16}
	case "sha1", "ripemd160":
		return []int{20}
	case "gitCommit", "gitTree", "gitBlob", "gitTag":
		return []int{20, 32}
	case "sha224", "sha512_224", "sha3_224":
		return []int{28}
	case "sha256", "sha512_256", "sha3_256", "blake2s", "sm3", "gost", "dirHash", "dirHash1":
		return []int{32}
	case "sha384", "sha3_384":
		return []int{48}
	case "sha512", "sha3_512":
		return []int{64}
	}
	return nil
}

// encoded is base64, standard or for URLs, as protobuf's JSON mapping reads.
func encoded() *rule {
	return form("base64", func(s string) bool {
		s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
		_, err := base64.RawStdEncoding.DecodeString(s)
		return err == nil
	})
}

// resource is in-toto's ResourceDescriptor (spec/v1/resource_descriptor.md);
// the names in required must be there too.
func resource(required ...string) *rule {
	members := []member{
		may("name", text()).kept(), may("uri", uri()), may("digest", digests()), may("content", encoded()),
		may("downloadLocation", uri()), may("mediaType", text()), may("annotations", table(anything())),
	}
	for i, m := range members {
		members[i].required = slices.Contains(required, m.name)
	}
	r := object(members...)
	r.title = "name"
	r.whole = func(h held, fault note) {
		if !h.has("uri") && !h.has("digest") && !h.has("content") {
			fault("", "does not say what it is: want a uri, a digest or content")
		}
	}
	return r
}
