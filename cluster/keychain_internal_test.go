package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/registry"
)

func named(k keychain, host, repository string, plain bool) (out []string) {
	for _, c := range k.Lend(host, repository, plain) {
		out = append(out, c.Username)
	}
	return out
}

// Row I5: credentials are lent for the place that their line names and for no
// other. Each line's user is its own number.
func TestLend(t *testing.T) {
	for _, tt := range []struct {
		places           []string
		host, repository string
		plain            bool
		want             []string
	}{
		{places: []string{"r.example.com"}, host: "r.example.com", repository: "a", want: []string{"0"}},
		{places: []string{"r.example.com"}, host: "r.example.com", repository: "a", plain: true, want: []string{"0"}},
		{places: []string{"https://r.example.com"}, host: "r.example.com", repository: "a", want: []string{"0"}},
		{places: []string{"https://r.example.com"}, host: "r.example.com", repository: "a", plain: true},
		{places: []string{"http://r.example.com/"}, host: "r.example.com", repository: "a", want: []string{"0"}},
		{places: []string{"R.example.com"}, host: "r.example.com", repository: "a", want: []string{"0"}},
		{places: []string{"r.example.com"}, host: "r.example.com:443", repository: "a"},
		{places: []string{"r.example.com:5000"}, host: "r.example.com:5000", repository: "a", want: []string{"0"}},
		{places: []string{"r.example.com:5000"}, host: "r.example.com", repository: "a"},
		{places: []string{"r.example.com"}, host: "r.example.com.evil.test", repository: "a"},
		{places: []string{"r.example.com"}, host: "evil.r.example.com", repository: "a"},
		{places: []string{"example.com"}, host: "r.example.com", repository: "a"},
		{places: []string{"r.example.com@evil.test"}, host: "evil.test", repository: "a"},
		{places: []string{"r.example.com\\.evil.test"}, host: "evil.test", repository: "a"},
		{places: []string{"*.example.com"}, host: "r.example.com", repository: "a", want: []string{"0"}},
		{places: []string{"*.example.com"}, host: "a.r.example.com", repository: "a"},
		{places: []string{"*.example.com"}, host: "example.com", repository: "a"},
		{places: []string{"r.*.com"}, host: "r.example.com", repository: "a", want: []string{"0"}},
		{places: []string{"*"}, host: "r.example.com", repository: "a"},
		{places: []string{"r.example.com/team"}, host: "r.example.com", repository: "team/app", want: []string{"0"}},
		{places: []string{"r.example.com/team"}, host: "r.example.com", repository: "team", want: []string{"0"}},
		{places: []string{"r.example.com/team"}, host: "r.example.com", repository: "team-b/app"},
		{places: []string{"r.example.com/team/app"}, host: "r.example.com", repository: "team"},
		{places: []string{"https://index.docker.io/v1/"}, host: registry.DockerHub, repository: "library/nginx", want: []string{"0"}},
		{places: []string{"docker.io"}, host: registry.DockerHub, repository: "team/app", want: []string{"0"}},
		{places: []string{"https://r.example.com/v2/team"}, host: "r.example.com", repository: "team/app", want: []string{"0"}},
		{places: []string{"*.example.com", "r.example.com", "r.example.com/team"}, host: "r.example.com", repository: "team/app", want: []string{"2", "1", "0"}},
		{places: []string{"[::1]:5000"}, host: "[::1]:5000", repository: "a", want: []string{"0"}},
		{places: []string{"", "/", "https://", "a b.example.com"}, host: "r.example.com", repository: "a"},
	} {
		t.Run(strings.Join(tt.places, " ")+" "+tt.host+"/"+tt.repository, func(t *testing.T) {
			auths := map[string]dockerEntry{}
			for i, place := range tt.places {
				auths[place] = dockerEntry{Username: fmt.Sprint(i), Password: "p"}
			}
			content, err := json.Marshal(auths)
			if err != nil {
				t.Fatal(err)
			}
			k, err := parsePullSecret(typeDockercfg, content)
			if err != nil {
				t.Fatal(err)
			}
			if got := named(k, tt.host, tt.repository, tt.plain); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestParsePullSecret(t *testing.T) {
	lines := func(s string) string { return `{"auths":{"r.example.com":` + s + `}}` }
	for name, tt := range map[string]struct {
		content string
		want    []registry.Credentials
		refused bool
	}{
		"fields":           {lines(`{"username":"u","password":"p"}`), []registry.Credentials{{Username: "u", Password: "p"}}, false},
		"auth":             {lines(`{"auth":"dTpwOnE="}`), []registry.Credentials{{Username: "u", Password: "p:q"}}, false},
		"auth unpadded":    {lines(`{"auth":"dTpwOnE"}`), []registry.Credentials{{Username: "u", Password: "p:q"}}, false},
		"auth overrides":   {lines(`{"username":"x","password":"y","auth":"dTpwOnE="}`), []registry.Credentials{{Username: "u", Password: "p:q"}}, false},
		"token":            {lines(`{"registrytoken":"t"}`), []registry.Credentials{{Token: "t"}}, false},
		"more fields":      {lines(`{"username":"u","password":"p","email":"e","identitytoken":"i"}`), []registry.Credentials{{Username: "u", Password: "p"}}, false},
		"no password":      {lines(`{"username":"u"}`), nil, false},
		"not base64":       {lines(`{"auth":"%%"}`), nil, false},
		"no colon":         {lines(`{"auth":"dQ=="}`), nil, false},
		"nothing":          {`{}`, nil, false},
		"empty":            {``, nil, true},
		"cut":              {`{"auths":{`, nil, true},
		"twice":            {`{"auths":{},"auths":{}}`, nil, true},
		"another case":     {`{"Auths":{"r.example.com":{"username":"u","password":"p"}}}`, nil, true},
		"not an object":    {`[]`, nil, true},
		"number":           {lines(`{"username":1,"password":"p"}`), nil, true},
		"two kinds of one": {lines(`{"username":"u","password":"p","Password":"q"}`), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := parsePullSecret(typeDockerConfigJSON, []byte(tt.content))
			if (err != nil) != tt.refused {
				t.Fatalf("%v", err)
			}
			if got := k.Lend("r.example.com", "a", false); !slices.Equal(got, tt.want) {
				t.Errorf("%d credentials, want %d", len(got), len(tt.want))
			}
		})
	}
	var many strings.Builder
	for i := range 300 {
		fmt.Fprintf(&many, `"r%d.example.com":{},`, i)
	}
	if _, err := parsePullSecret(typeDockercfg, []byte("{"+strings.TrimSuffix(many.String(), ",")+"}")); err == nil {
		t.Error("more lines than the limit are taken")
	}
}

// Whatever a secret holds: nothing panics, what is lent can be sent, it is lent for
// a host that its document names, and the same document is the same keychain.
func FuzzPullSecret(f *testing.F) {
	for _, s := range []string{
		`{"auths":{"r.example.com":{"auth":"dTpw"}}}`, `{"r.example.com/team":{"username":"u","password":"p"}}`,
		`{"auths":{"*.example.com":{"auth":"dTpw"},"https://r.example.com/v1/":{"registrytoken":"t"}}}`, `{"auths":{"[::1]:1/a":{}}}`, `{`,
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, content []byte, old bool) {
		kind := typeDockerConfigJSON
		if old {
			kind = typeDockercfg
		}
		k, err := parsePullSecret(kind, content)
		again, _ := parsePullSecret(kind, content)
		if err != nil {
			if k != nil || strings.Contains(err.Error(), "dTpw") {
				t.Fatalf("refused, and yet: %d entries, %v", len(k), err)
			}
			return
		}
		text := strings.ToLower(string(content))
		for _, host := range []string{"r.example.com", "r.example.com:5000", registry.DockerHub, "[::1]:1"} {
			got := k.Lend(host, "team/app", false)
			if !slices.Equal(got, again.Lend(host, "team/app", false)) {
				t.Fatal("the same document is another keychain")
			}
			if host == "r.example.com" && len(got) > 0 && !strings.Contains(text, "example") && !strings.ContainsAny(text, `*?\`) {
				t.Fatalf("lent for a host that is not named: %q", content)
			}
		}
		if registry.Mark(k, registry.Reference{Host: "nowhere.test", Repository: "a"}) != [32]byte{} && !strings.Contains(text, "nowhere") && !strings.ContainsAny(text, `*?\`) {
			t.Fatalf("lent for nowhere: %q", content)
		}
	})
}
