package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/registry"
)

func TestParseRule(t *testing.T) {
	document := `{"host":"Registry.Example.com","repositories":["team/**"],"insecureHttp":true,
		"credentials":{"username":"u","password":"p"},"mirrors":["mirror.example.com/hub","[::1]:5000"],"allowPrivateAddress":true}`
	want := registry.Rule{
		Host: "registry.example.com", Repositories: []string{"team/**"}, InsecureHTTP: true,
		Credentials: &registry.Credentials{Username: "u", Password: "p"},
		Mirrors:     []string{"mirror.example.com/hub", "[::1]:5000"}, AllowPrivateAddress: true,
	}
	got, err := registry.ParseRule("registry.example.com", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	again, err := registry.ParseRule("", b)
	if diff := cmp.Diff(want, again); diff != "" || err != nil {
		t.Errorf("stored and read: %s %v", diff, err)
	}
	if hub, err := registry.ParseRule("docker.io", []byte(`{"repositories":["**"]}`)); err != nil || hub.Host != registry.DockerHub {
		t.Errorf("%+v, %v", hub, err)
	}
}

func TestParseRuleRefuses(t *testing.T) {
	for document, field := range map[string]string{
		`{}`:                                                                 "repositories",
		`{"repositories":[]}`:                                                "repositories",
		`{"repositories":[""]}`:                                              "repositories/0",
		`{"repositories":["a**"]}`:                                           "repositories/0",
		`{"repositories":["**"],"host":"other"}`:                             "host",
		`{"repositories":["**"],"unknown":1}`:                                "unknown",
		`{"repositories":["**"],"Repositories":["**"]}`:                      "Repositories",
		`{"repositories":["**"],"repositories":["**"]}`:                      "",
		`{"repositories":["**"],"insecureHttp":"yes"}`:                       "insecureHttp",
		`{"repositories":["**"],"caBundle":"none"}`:                          "caBundle",
		`{"repositories":["**"],"credentials":{}}`:                           "credentials",
		`{"repositories":["**"],"credentials":{"username":"u"}}`:             "credentials",
		`{"repositories":["**"],"credentials":{"password":"canary-7f3a9c"}}`: "credentials",
		`{"repositories":["**"],"credentials":{"username":"u","password":"p","token":"t"}}`:     "credentials",
		`{"repositories":["**"],"credentials":{"username":"u:v","password":"canary-7f3a9c"}}`:   "credentials",
		`{"repositories":["**"],"credentials":{"username":"u","password":"canary-7f3a9c\r\n"}}`: "credentials",
		`{"repositories":["**"],"credentials":{"token":"canary-7f3a9c x"}}`:                     "credentials/token",
		`{"repositories":["**"],"credentials":{"username":"u","password":"[redacted]"}}`:        "credentials",
		`{"repositories":["**"],"credentials":{"token":"[redacted]"}}`:                          "credentials",
		`{"repositories":["**"],"mirrors":["https://m.example.com"]}`:                           "mirrors/0",
		`{"repositories":["**"],"mirrors":["m.example.com","r.example.com"]}`:                   "mirrors/1",
		`{"repositories":["**"],"mirrors":["m.example.com/../x"]}`:                              "mirrors/0",
		`{"repositories":["**"]} {}`: "",
		`null`:                       "repositories",
		`[]`:                         "",
		``:                           "",
	} {
		r, err := registry.ParseRule("r.example.com", []byte(document))
		if !errors.Is(err, registry.ErrRule) || r.Host != "" {
			t.Errorf("%s: %+v, %v", document, r, err)
			continue
		}
		if !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v does not name %q", document, err, field)
		}
	}
	for _, host := range []string{"", "a b", "https://x", "x/y", "x."} {
		if _, err := registry.ParseRule(host, []byte(`{"repositories":["**"]}`)); !errors.Is(err, registry.ErrRule) {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// K1: an answer shows who, never with what; the rule itself is not changed.
func TestK1RedactedRule(t *testing.T) {
	for _, c := range []registry.Credentials{{Username: "u", Password: canary}, {Token: canary}} {
		rule := registry.Rule{Host: "r.example.com", Repositories: []string{"**"}, Credentials: &c}
		b, err := json.Marshal(rule.Redacted())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), canary) || !strings.Contains(string(b), "[redacted]") || strings.Contains(fmt.Sprint(rule.Redacted()), canary) {
			t.Errorf("%s", b)
		}
		if c.Password+c.Token != canary {
			t.Error("the rule was changed")
		}
		if _, err := registry.ParseRule("", b); !errors.Is(err, registry.ErrRule) {
			t.Errorf("a redacted answer was taken for a rule: %v", err)
		}
	}
}

// What parses is valid, and is the same after storing.
func FuzzParseRule(f *testing.F) {
	f.Add("r.example.com", []byte(`{"repositories":["team/**"],"credentials":{"token":"t"},"mirrors":["m.example.com/x"]}`))
	f.Add("", []byte(`{"host":"docker.io","repositories":["*"],"credentials":{"username":"u","password":"p"}}`))
	f.Add("r", []byte(`{"repositories":["**"],"repositories":[]}`))
	f.Fuzz(func(t *testing.T, host string, document []byte) {
		rule, err := registry.ParseRule(host, document)
		if err != nil {
			return
		}
		if len(rule.Repositories) == 0 || rule.Host == "" {
			t.Fatalf("%+v", rule)
		}
		b, err := json.Marshal(rule)
		if err != nil {
			t.Fatal(err)
		}
		again, err := registry.ParseRule(rule.Host, b)
		if err != nil || cmp.Diff(rule, again) != "" {
			t.Errorf("%+v, then %+v, %v", rule, again, err)
		}
	})
}
