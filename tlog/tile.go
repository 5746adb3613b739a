package tlog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrPath says that a string is not a path of the tlog-tiles layout.
var ErrPath = errors.New("invalid tile path")

// TileWidth is the number of hashes in a full tile and of entries in a full
// entry bundle.
const TileWidth = 256

// maxLevel is the highest level of a tree of at most 2^63 leaves, eight tree
// levels to a tile.
const maxLevel = 7

// Tile names a tile or an entry bundle of the C2SP tlog-tiles layout.
type Tile struct {
	// Entries says that it is an entry bundle; Level is then 0.
	Entries bool
	Level   uint64
	Index   uint64
	// Width is the number of hashes or entries, 1 to TileWidth. Less than
	// TileWidth makes it partial.
	Width int
}

// ParseTilePath reads `tile/L/N[.p/W]` or `tile/entries/N[.p/W]`. N is written
// in groups of three digits, all but the last prefixed with x; there is exactly
// one spelling of each tile, and everything else (leading zeros, dot segments,
// empty segments) is ErrPath.
func ParseTilePath(path string) (Tile, error) {
	// The longest path names an index below 2^64, seven groups.
	if len(path) > 64 {
		return Tile{}, ErrPath
	}
	parts := strings.Split(path, "/")
	if len(parts) < 3 || parts[0] != "tile" {
		return Tile{}, ErrPath
	}
	t := Tile{Entries: parts[1] == "entries", Width: TileWidth}
	var ok bool
	if !t.Entries {
		if t.Level, ok = decimal(parts[1], maxLevel); !ok {
			return Tile{}, fmt.Errorf("%w: level", ErrPath)
		}
	}
	groups, width, ok := splitWidth(parts[2:])
	if !ok {
		return Tile{}, fmt.Errorf("%w: width", ErrPath)
	}
	if t.Index, ok = parseGroups(groups); !ok {
		return Tile{}, fmt.Errorf("%w: index", ErrPath)
	}
	t.Width = width
	return t, nil
}

// Path is the one spelling that ParseTilePath reads.
func (t Tile) Path() string {
	name := strconv.FormatUint(t.Level, 10)
	if t.Entries {
		name = "entries"
	}
	path := fmt.Sprintf("%03d", t.Index%1000)
	for n := t.Index / 1000; n > 0; n /= 1000 {
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if t.Width < TileWidth {
		path += ".p/" + strconv.Itoa(t.Width)
	}
	return "tile/" + name + "/" + path
}

// WidthAt is how many hashes or entries the tile has in a tree of that size: 0
// when the tree does not reach it.
func (t Tile) WidthAt(size uint64) int {
	nodes := size >> (8 * t.Level)
	if nodes>>8 < t.Index {
		return 0
	}
	if nodes>>8 > t.Index {
		return TileWidth
	}
	return int(nodes & (TileWidth - 1))
}

// splitWidth takes `….p/W` off the end.
func splitWidth(parts []string) (groups []string, width int, ok bool) {
	if len(parts) < 2 {
		return parts, TileWidth, true
	}
	last, partial := strings.CutSuffix(parts[len(parts)-2], ".p")
	if !partial {
		return parts, TileWidth, true
	}
	w, ok := decimal(parts[len(parts)-1], TileWidth-1)
	groups = append(append([]string(nil), parts[:len(parts)-2]...), last)
	return groups, int(w), ok && w > 0 //nolint:gosec // decimal bounds it by TileWidth
}

// parseGroups reads x001 x234 067 as 1234067.
func parseGroups(groups []string) (uint64, bool) {
	// 2^64 has twenty digits, seven groups; six hold every tile of a tree
	// below 2^63 leaves and cannot overflow.
	if len(groups) > 6 || (len(groups) > 1 && groups[0] == "x000") {
		return 0, false
	}
	var n uint64
	for i, group := range groups {
		if i < len(groups)-1 {
			var found bool
			if group, found = strings.CutPrefix(group, "x"); !found {
				return 0, false
			}
		}
		if len(group) != 3 {
			return 0, false
		}
		for _, c := range []byte(group) {
			if c < '0' || c > '9' {
				return 0, false
			}
			n = n*10 + uint64(c-'0')
		}
	}
	return n, true
}

// decimal reads a decimal number without sign or leading zeros.
func decimal(s string, most uint64) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= most && strconv.FormatUint(n, 10) == s
}
