package witness

import (
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// Log is one witnessed log: the name of its verifier is its origin.
type Log struct {
	note.Verifier
}

// ParseLogs reads a list of logs, a verifier key on each line, alone or as in a
// C2SP tlog-policy: log VKEY [URL]. Empty lines and lines that begin with # are
// passed over. Everything else is ErrConfig.
func ParseLogs(list string) ([]Log, error) {
	var logs []Log
	for number, line := range strings.Split(list, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		vkey := fields[0]
		switch {
		case fields[0] == "log" && (len(fields) == 2 || len(fields) == 3):
			vkey = fields[1]
		case len(fields) != 1:
			return nil, fmt.Errorf("%w: line %d: want a verifier key, or: log VKEY [URL]", ErrConfig, number+1)
		}
		verifier, err := tlog.ParseVerifierKey(vkey)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrConfig, number+1, err)
		}
		logs = append(logs, Log{verifier})
	}
	if len(logs) == 0 {
		return nil, fmt.Errorf("%w: it names no log", ErrConfig)
	}
	return logs, nil
}

// byOrigin gathers the keys of each origin.
func byOrigin(logs []Log) (map[string]note.Verifiers, error) {
	if len(logs) == 0 || len(logs) > limits.WitnessedLogs {
		return nil, fmt.Errorf("%w: want 1 to %d logs", ErrConfig, limits.WitnessedLogs)
	}
	type key struct {
		origin string
		id     uint32
	}
	seen := map[key]bool{}
	grouped := map[string][]note.Verifier{}
	for _, log := range logs {
		if log.Verifier == nil || len(log.Name()) > limits.WitnessOrigin {
			return nil, fmt.Errorf("%w: a log without a key, or an origin longer than %d bytes", ErrConfig, limits.WitnessOrigin)
		}
		k := key{log.Name(), log.KeyHash()}
		if seen[k] {
			return nil, fmt.Errorf("%w: %s is named twice with one key", ErrConfig, log.Name())
		}
		seen[k] = true
		grouped[log.Name()] = append(grouped[log.Name()], log.Verifier)
	}
	out := make(map[string]note.Verifiers, len(grouped))
	for origin, verifiers := range grouped {
		out[origin] = note.VerifierList(verifiers...)
	}
	return out, nil
}
