package convert

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// readTrust reads what configures Docker Content Trust: daemon.json, or lines,
// which are the environment (NAME=VALUE) or a listing of the files below
// ~/.docker/trust (a path each).
func readTrust(b []byte) ([]any, error) {
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		return readTrees(b)
	}
	if len(b) > limits.ForeignPolicy {
		return nil, fmt.Errorf("larger than %d bytes", limits.ForeignPolicy)
	}
	var lines []any
	for line := range strings.Lines(string(b)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 || len(lines) > limits.ForeignFields {
		return nil, fmt.Errorf("want 1 to %d lines", limits.ForeignFields)
	}
	return []any{lines}, nil
}

// contentTrust converts nothing, since the signatures cannot be converted. For
// each repository that has metadata a policy is drafted that asks for a managed
// key which is still to be made, so that it denies until then; every line says
// what to do.
func contentTrust(r *reader, roots []field) {
	var repositories []string
	for _, root := range roots {
		if _, structured := root.v.(map[string]any); structured {
			daemonTrust(root)
			continue
		}
		for _, line := range root.items() {
			repository, detail := dctLine(line.text())
			line.refuse("%s", detail)
			if repository != "" && !slices.Contains(repositories, repository) {
				repositories = append(repositories, repository)
			}
		}
	}
	for _, repository := range repositories {
		dctDraft(r, repository)
	}
}

var (
	variable = regexp.MustCompile(`^(DOCKER_CONTENT_TRUST[A-Z_]*)=`)
	metadata = regexp.MustCompile(`(?:^|/)tuf/(.+)/metadata/[A-Za-z0-9._/-]+\.json$`)
	private  = regexp.MustCompile(`(?:^|/)private/[^/]+$`)
)

func dctLine(line string) (repository, detail string) {
	if found := variable.FindStringSubmatch(line); found != nil {
		switch found[1] {
		case "DOCKER_CONTENT_TRUST":
			return "", "becomes the policies themselves: an image of which none speaks is FAILED, whatever this is set to; unset it once they are enforced"
		case "DOCKER_CONTENT_TRUST_SERVER":
			return "", "the Notary server is not asked: sign its repositories again, then unset it"
		default:
			return "", "passphrases have no counterpart, since keys do not leave the service: delete it when the old keys are gone"
		}
	}
	if found := metadata.FindStringSubmatch(line); found != nil {
		repository = found[1]
		if rest, hub := strings.CutPrefix(repository, "docker.io/"); hub {
			repository = "index.docker.io/" + rest
		}
		return repository, fmt.Sprintf("signatures of %s cannot be converted: sign its digests again", repository)
	}
	if private.MatchString(line) {
		return "", "private keys of Notary are not taken over: make a managed key (countersign keys create), and delete this one when nothing needs it"
	}
	return "", "is not known here"
}

func dctDraft(r *reader, repository string) {
	from := r.root("repository "+repository, repository)
	d := r.draft(from, repository)
	key := nameOf(repository)
	d.images = []string{repository}
	d.require = signature(d.by("release", map[string]any{"key": map[string]any{"name": key}}))
	from.exact("drafted")
	r.after = append(r.after, Line{Source: from.at, Outcome: Refused, Detail: fmt.Sprintf(
		"the policy %s is a draft that denies until it is served: 1. countersign keys create %s; 2. grant it to the build (countersign grants apply); "+
			"3. countersign sign --key %s for every digest that is deployed; 4. apply the policy with mode: warn, then enforce", d.name, key, key,
	)})
}

// daemonTrust reads the content-trust of daemon.json.
func daemonTrust(root field) {
	trust := root.get("content-trust")
	for _, member := range root.members() {
		if member.name() != "content-trust" {
			member.exact("says nothing of content trust")
		}
	}
	trust.get("mode").refuse("becomes the mode of the policies that you write: enforced is enforce, permissive is warn, disabled is none")
	pins := trust.get("trust-pinning")
	for _, repository := range pins.get("root-keys").members() {
		repository.refuse("root keys of Notary sign nothing here: make a managed key for %s, sign its digests again, and write a policy for it", repository.name())
	}
	pins.refuse("pinning has no counterpart: verify the official images once and sign them yourself before use")
	trust.get("allow-expired-cached-trust-data").refuse("there is no cached trust data: expired evidence never counts")
	trust.refuse("is not known here")
	if !trust.present() {
		root.remark(Refused, "/content-trust", "is missing: there is nothing to convert")
	}
}
