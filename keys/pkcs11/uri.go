package pkcs11

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
)

// location is a parsed reference.
type location struct {
	token, object string
	id            []byte
	module, pin   string
}

// parse reads a reference. Errors wrap keys.ErrRef.
func parse(ref string) (location, error) {
	rest, ok := strings.CutPrefix(ref, "pkcs11:")
	if !ok || len(ref) > limits.KeyRef {
		return location{}, fmt.Errorf("%w: want pkcs11:token=…;object=…?module-path=…&pin-source=file:…", keys.ErrRef)
	}
	path, query, _ := strings.Cut(rest, "?")
	attributes, err := split(path, ";", "token", "object", "id")
	if err != nil {
		return location{}, err
	}
	queries, err := split(query, "&", "module-path", "pin-source")
	if err != nil {
		return location{}, err
	}
	l := location{
		token: attributes["token"], object: attributes["object"], id: []byte(attributes["id"]),
		module: queries["module-path"], pin: strings.TrimPrefix(queries["pin-source"], "file:"),
	}
	return l, l.check()
}

func (l location) check() error {
	switch {
	case l.token == "":
		return fmt.Errorf("%w: token is missing", keys.ErrRef)
	case l.object == "" && len(l.id) == 0:
		return fmt.Errorf("%w: object or id is missing", keys.ErrRef)
	case !exact(l.module):
		return fmt.Errorf("%w: module-path must be an absolute path", keys.ErrRef)
	case !exact(l.pin):
		return fmt.Errorf("%w: pin-source must be file: and an absolute path", keys.ErrRef)
	}
	return nil
}

// exact reports whether a path is absolute and in its one form.
func exact(path string) bool { return filepath.IsAbs(path) && filepath.Clean(path) == path }

// split reads NAME=VALUE pairs of the names given, each at most once and not
// empty, with percent-encoded values (RFC 7512 §2.3: `+` is a plus).
func split(text, separator string, names ...string) (map[string]string, error) {
	values := map[string]string{}
	for pair := range strings.SplitSeq(text, separator) {
		name, encoded, _ := strings.Cut(pair, "=")
		known := false
		for _, n := range names {
			known = known || n == name
		}
		if !known {
			return nil, fmt.Errorf("%w: an attribute is none of %v", keys.ErrRef, names)
		}
		value, err := url.PathUnescape(encoded)
		if err != nil || value == "" || strings.ContainsRune(value, 0) && name != "id" {
			return nil, fmt.Errorf("%w: %s has no usable value", keys.ErrRef, name)
		}
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("%w: %s stands twice", keys.ErrRef, name)
		}
		values[name] = value
	}
	return values, nil
}
