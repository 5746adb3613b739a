package tuf

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrPath says that a string is not the path of a published file.
var ErrPath = errors.New("invalid path in the TUF repository")

// Role is a top-level role of TUF.
type Role string

// The top-level roles.
const (
	Root      Role = "root"
	Targets   Role = "targets"
	Snapshot  Role = "snapshot"
	Timestamp Role = "timestamp"
)

// Roles lists the roles in the order in which clients read them.
func Roles() []Role { return []Role{Root, Timestamp, Snapshot, Targets} }

// ParseRole reads a role's name.
func ParseRole(s string) (Role, error) {
	for _, r := range Roles() {
		if string(r) == s {
			return r, nil
		}
	}
	return "", fmt.Errorf("%w: want root, targets, snapshot or timestamp", ErrRole)
}

// Bounds of a path: a version has at most 9 digits, a target's name at most 64
// characters.
const (
	versionDigits = 9
	nameSize      = 64
	pathSize      = 256
)

// File names a published file: metadata by its role, or a target by its name.
type File struct {
	Role Role
	// Version is 0 for timestamp.json and root.json.
	Version int64
	// Hash and Name are set for a target, and Role is then empty. Hash is 64
	// lowercase hexadecimal digits.
	Hash string
	Name string
}

// ParsePath reads the path of a published file relative to the repository:
// timestamp.json, root.json, N.root.json, N.snapshot.json, N.targets.json or
// targets/HASH.NAME. Each file has exactly one spelling; everything else
// (a leading slash, dot segments, leading zeros, another case) is ErrPath.
// What parses names no place outside the folder.
func ParsePath(path string) (File, error) {
	if len(path) > pathSize {
		return File{}, ErrPath
	}
	if rest, ok := strings.CutPrefix(path, "targets/"); ok {
		return parseTarget(rest)
	}
	base, ok := strings.CutSuffix(path, ".json")
	if !ok {
		return File{}, ErrPath
	}
	if base == string(Root) || base == string(Timestamp) {
		return File{Role: Role(base)}, nil
	}
	number, role, ok := strings.Cut(base, ".")
	if !ok || (role != string(Root) && role != string(Snapshot) && role != string(Targets)) {
		return File{}, ErrPath
	}
	version, ok := parseVersion(number)
	if !ok {
		return File{}, ErrPath
	}
	return File{Role: Role(role), Version: version}, nil
}

// Path is the one spelling that ParsePath reads.
func (f File) Path() string {
	switch {
	case f.Role == "":
		return "targets/" + f.Hash + "." + f.Name
	case f.Version == 0:
		return string(f.Role) + ".json"
	default:
		return strconv.FormatInt(f.Version, 10) + "." + string(f.Role) + ".json"
	}
}

// Immutable reports whether the file never changes.
func (f File) Immutable() bool { return f.Role == "" || f.Version > 0 }

func parseTarget(s string) (File, error) {
	hash, name, ok := strings.Cut(s, ".")
	if !ok || !isHash(hash) || !isName(name) {
		return File{}, ErrPath
	}
	return File{Hash: hash, Name: name}, nil
}

func isHash(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 32 && hex.EncodeToString(raw) == s
}

// isName admits letters, digits and inner dots, dashes and underscores: a name
// that is a plain file on every system.
func isName(s string) bool {
	if s == "" || len(s) > nameSize {
		return false
	}
	inner := func(c byte) bool { return c == '.' || c == '-' || c == '_' }
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (!inner(c) || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return true
}

func parseVersion(s string) (int64, bool) {
	if len(s) > versionDigits {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n > 0 && strconv.FormatInt(n, 10) == s
}
