package cluster

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/registry"
)

// errPullSecret is wrapped by what is wrong with a pull secret. Its texts carry
// nothing of the secret.
var errPullSecret = errors.New("pull secret")

// keychain are the credentials of some pull secrets of one namespace.
type keychain []entry

// String tells that there are some: fmt does not ask unexported fields how they
// want to be shown.
func (k keychain) String() string { return fmt.Sprintf("%d lines of pull secrets", len(k)) }

// GoString is String, for %#v.
func (k keychain) GoString() string { return k.String() }

// LogValue is String.
func (k keychain) LogValue() slog.Value { return slog.StringValue(k.String()) }

// entry is one line of a pull secret.
type entry struct {
	// host is an authority whose labels may be patterns (path.Match), port the same
	// or empty, and path a repository or the beginning of one, or empty.
	host, port, path string
	// tlsOnly: the line names https://.
	tlsOnly     bool
	credentials registry.Credentials
}

// Lend makes it a registry.Keychain. The more a line says of where it belongs, the
// sooner it is tried; lines that say the same are tried in the order of the
// secrets.
func (k keychain) Lend(host, repository string, plain bool) []registry.Credentials {
	var fitting []entry
	for _, e := range k {
		if e.fits(host, repository) && (!plain || !e.tlsOnly) {
			fitting = append(fitting, e)
		}
	}
	slices.SortStableFunc(fitting, func(a, b entry) int {
		return cmp.Or(cmp.Compare(strings.Count(a.host, "*"), strings.Count(b.host, "*")), cmp.Compare(len(b.path), len(a.path)))
	})
	var out []registry.Credentials
	for _, e := range fitting {
		if !slices.Contains(out, e.credentials) && len(out) < limits.LentCredentials {
			out = append(out, e.credentials)
		}
	}
	return out
}

func (e entry) fits(authority, repository string) bool {
	host, port := splitPort(authority)
	if port != e.port || (e.path != "" && e.path != repository && !strings.HasPrefix(repository, e.path+"/")) {
		return false
	}
	if strings.HasPrefix(e.host, "[") { // an address, and no pattern of one
		return e.host == host
	}
	want, have := strings.Split(e.host, "."), strings.Split(host, ".")
	return slices.EqualFunc(want, have, func(pattern, label string) bool {
		ok, err := path.Match(pattern, label)
		return err == nil && ok
	})
}

// splitPort is for names and IPv4; what is in brackets stays whole.
func splitPort(authority string) (host, port string) {
	if strings.HasPrefix(authority, "[") {
		return authority, ""
	}
	host, port, _ = strings.Cut(authority, ":")
	return host, port
}

// dockerEntry is what a line of a Docker configuration may hold. Others, such as
// the address or an identity token, are passed over.
type dockerEntry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	RegistryToken string `json:"registrytoken"`
}

// parsePullSecret reads the content of a secret of the type. Lines without
// credentials, or with such as HTTP cannot carry, are passed over.
func parsePullSecret(kind string, content []byte) (keychain, error) {
	if len(content) > limits.PullSecret {
		return nil, fmt.Errorf("%w: larger than %d bytes", errPullSecret, limits.PullSecret)
	}
	var config struct {
		Auths map[string]dockerEntry `json:"auths"`
	}
	var err error
	if kind == typeDockercfg {
		err = strictjson.UnmarshalOpen(content, &config.Auths)
	} else {
		err = strictjson.UnmarshalOpen(content, &config)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it is not a Docker configuration in strict JSON", errPullSecret)
	}
	if len(config.Auths) > limits.PullSecretEntries {
		return nil, fmt.Errorf("%w: more than %d registries", errPullSecret, limits.PullSecretEntries)
	}
	var out keychain
	for place, line := range config.Auths {
		e, ok := parsePlace(place)
		if !ok {
			continue
		}
		if e.credentials, ok = line.credentials(); ok {
			out = append(out, e)
		}
	}
	// A map has no order, and the same secret shall always be the same keychain.
	slices.SortFunc(out, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.port, b.port), cmp.Compare(a.path, b.path),
			cmp.Compare(a.credentials.Username, b.credentials.Username), cmp.Compare(string(a.credentials.Password), string(b.credentials.Password)))
	})
	return out, nil
}

func (d dockerEntry) credentials() (registry.Credentials, bool) {
	c := registry.Credentials{Username: d.Username, Password: registry.Secret(d.Password)}
	if d.Auth != "" { // it overrides the two, as for the kubelet
		raw, err := base64.StdEncoding.DecodeString(d.Auth)
		if err != nil {
			raw, err = base64.RawStdEncoding.DecodeString(d.Auth)
		}
		user, password, ok := strings.Cut(string(raw), ":")
		if err != nil || !ok {
			return c, false
		}
		c = registry.Credentials{Username: user, Password: registry.Secret(password)}
	}
	if d.RegistryToken != "" {
		c = registry.Credentials{Token: registry.Secret(d.RegistryToken)}
	}
	return c, c.Token != "" || c.Username != "" && c.Password != ""
}

// parsePlace reads [SCHEME://]HOST[:PORT][/v1/|/v2/][PATH], the name of a line.
func parsePlace(s string) (entry, bool) {
	var e entry
	if rest, ok := strings.CutPrefix(s, "https://"); ok {
		s, e.tlsOnly = rest, true
	} else {
		s = strings.TrimPrefix(s, "http://")
	}
	authority, place, _ := strings.Cut(s, "/")
	// The version is Docker's name for the interface, not part of a repository.
	for _, version := range []string{"v1", "v2"} {
		if place == version || strings.HasPrefix(place, version+"/") {
			place = strings.TrimPrefix(place[len(version):], "/")
			break
		}
	}
	e.host, e.port = splitPort(strings.ToLower(authority))
	e.path = strings.TrimSuffix(place, "/")
	if e.host == "docker.io" {
		e.host = registry.DockerHub
	}
	// With its patterns replaced it must be a name that a registry can have.
	probe := strings.NewReplacer("*", "a", "?", "a").Replace(authority)
	ref, err := registry.ParseReference(strings.ToLower(probe) + "/" + cmp.Or(e.path, "a"))
	return e, err == nil && ref.Tag == "latest" && !strings.ContainsAny(e.path, ":@") && strings.EqualFold(hostOf(probe), ref.Host)
}

// hostOf is the authority as references name it.
func hostOf(authority string) string {
	if strings.EqualFold(authority, "docker.io") {
		return registry.DockerHub
	}
	return authority
}
