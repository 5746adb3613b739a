package notary

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/countersign/countersign/internal/limits"
)

// ErrName is wrapped by errors about distinguished names.
var ErrName = errors.New("invalid distinguished name")

// Name is a distinguished name of which a certificate's subject must have every
// attribute, as the trusted identities of the Notary Project (`x509.subject: …`)
// say it. The zero value is within no subject.
type Name struct {
	attributes []attribute
}

type attribute struct {
	id    string
	name  string
	value string
}

// ParseName reads a name in RFC 4514's form. Attributes are those of section 3
// and SERIALNUMBER, POSTALCODE and S for ST; each at most once. Refused are
// values in hexadecimal (`=#`, CVE-2023-25656), several attributes in one
// relative name (`+`), quotes, and everything that a laxer reader would read
// otherwise. Errors wrap ErrName.
func ParseName(text string) (Name, error) {
	if text == "" || len(text) > limits.X509Name || !utf8.ValidString(text) {
		return Name{}, fmt.Errorf("%w: want 1 to %d bytes of UTF-8", ErrName, limits.X509Name)
	}
	var n Name
	for rest, more := text, true; more; {
		var part string
		part, rest, more = cutEscaped(rest)
		a, err := parseAttribute(part)
		if err != nil {
			return Name{}, err
		}
		if slices.ContainsFunc(n.attributes, func(b attribute) bool { return a.id == b.id }) {
			return Name{}, fmt.Errorf("%w: %s is there twice", ErrName, a.name)
		}
		if len(n.attributes) == limits.X509Attributes {
			return Name{}, fmt.Errorf("%w: more than %d attributes", ErrName, limits.X509Attributes)
		}
		n.attributes = append(n.attributes, a)
	}
	return n, nil
}

// cutEscaped splits at the first comma without a backslash before it.
func cutEscaped(s string) (before, after string, found bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',':
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func parseAttribute(part string) (attribute, error) {
	kind, value, ok := strings.Cut(part, "=")
	if !ok {
		return attribute{}, fmt.Errorf("%w: an attribute without =", ErrName)
	}
	a := attribute{name: strings.ToUpper(strings.Trim(kind, " "))}
	if a.name == "S" {
		a.name = "ST"
	}
	if a.id, ok = attributeID(a.name); !ok {
		return attribute{}, fmt.Errorf("%w: an attribute of an unknown type", ErrName)
	}
	var err error
	a.value, err = unescape(strings.TrimLeft(value, " "))
	return a, err
}

// unescape reads a value; spaces at its end count only with a backslash.
func unescape(s string) (string, error) {
	if strings.HasPrefix(s, "#") {
		return "", fmt.Errorf("%w: a value in hexadecimal", ErrName)
	}
	var out []byte
	keep := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case strings.IndexByte("\"+;<>\x00", c) >= 0:
			return "", fmt.Errorf("%w: a character that needs a backslash", ErrName)
		case c != '\\':
			if out = append(out, c); c != ' ' {
				keep = len(out)
			}
		default:
			b, used, err := escaped(s[i+1:])
			if err != nil {
				return "", err
			}
			i += used
			out = append(out, b)
			keep = len(out)
		}
	}
	value := string(out[:keep])
	if value == "" || !utf8.ValidString(value) {
		return "", fmt.Errorf("%w: an empty or malformed value", ErrName)
	}
	return value, nil
}

// escaped is the byte after a backslash: a special character, or two
// hexadecimal digits.
func escaped(s string) (b byte, used int, err error) {
	if s != "" && strings.IndexByte(" \"#+,;<=>\\", s[0]) >= 0 {
		return s[0], 1, nil
	}
	if len(s) >= 2 {
		if pair, err := hex.DecodeString(s[:2]); err == nil && pair[0] != 0 {
			return pair[0], 2, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: a backslash before nothing special", ErrName)
}

func attributeID(name string) (string, bool) {
	switch name {
	case "CN":
		return "2.5.4.3", true
	case "SERIALNUMBER":
		return "2.5.4.5", true
	case "C":
		return "2.5.4.6", true
	case "L":
		return "2.5.4.7", true
	case "ST":
		return "2.5.4.8", true
	case "STREET":
		return "2.5.4.9", true
	case "O":
		return "2.5.4.10", true
	case "OU":
		return "2.5.4.11", true
	case "POSTALCODE":
		return "2.5.4.17", true
	case "UID":
		return "0.9.2342.19200300.100.1.1", true
	case "DC":
		return "0.9.2342.19200300.100.1.25", true
	}
	return "", false
}

// Has reports whether the name has an attribute, such as "C".
func (n Name) Has(name string) bool {
	return slices.ContainsFunc(n.attributes, func(a attribute) bool { return a.name == name })
}

// Within reports whether a certificate's subject, as its DER, has every
// attribute of the name with exactly its value. A subject in which an attribute
// is there twice or together with another, or is no text, is no answer to the
// question: nothing is within it.
func (n Name) Within(rawSubject []byte) bool {
	var subject pkix.RDNSequence
	rest, err := asn1.Unmarshal(rawSubject, &subject)
	if err != nil || len(rest) > 0 || len(n.attributes) == 0 {
		return false
	}
	values := make(map[string]string, len(subject))
	for _, relative := range subject {
		if len(relative) != 1 {
			return false
		}
		id := relative[0].Type.String()
		text, ok := relative[0].Value.(string)
		if _, twice := values[id]; twice || !ok {
			return false
		}
		values[id] = text
	}
	for _, a := range n.attributes {
		if value, has := values[a.id]; !has || value != a.value {
			return false
		}
	}
	return true
}

// String is the name in the form that ParseName reads.
func (n Name) String() string {
	parts := make([]string, 0, len(n.attributes))
	for _, a := range n.attributes {
		var b strings.Builder
		for i := 0; i < len(a.value); i++ {
			c := a.value[i]
			if strings.IndexByte("\"+,;<>\\", c) >= 0 || c == '#' && i == 0 || c == ' ' && (i == 0 || i == len(a.value)-1) {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
		parts = append(parts, a.name+"="+b.String())
	}
	return strings.Join(parts, ",")
}
