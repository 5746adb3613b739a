package oidc_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/internal/testissuer"
)

// Row D8: an issuer of client certificates has authorities and nothing else
// among its anchors, and no setting that speaks of tokens.
func TestParseClientIssuer(t *testing.T) {
	ca := testauthority.NewClientCA(t, "farm")
	document := func(change map[string]any) []byte {
		fields := map[string]any{"kind": "mtls", "caBundle": ca.PEM() + testauthority.NewClientCA(t, "next").PEM()}
		for name, value := range change {
			fields[name] = value
		}
		raw, err := strictjson.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	i, err := oidc.ParseIssuer("farm", document(nil))
	if err != nil || i.URL != "mtls:farm" {
		t.Fatalf("%+v, %v", i, err)
	}
	if got, err := i.ClientAuthorities(); err != nil || len(got) != 2 {
		t.Errorf("%d authorities, %v", len(got), err)
	}
	again(t, i)
	leaf, key := testauthority.PairPEM(t, ca.Issue(nil))
	for name, tc := range map[string]struct {
		field string
		value any
	}{
		"another name":            {"url", "mtls:other"},
		"a URL":                   {"url", "https://issuer.example"},
		"an audience":             {"audience", "a"},
		"keys":                    {"jwksUrl", "https://issuer.example/keys"},
		"a mapping":               {"claimsMapping", map[string]string{"a": "b"}},
		"one use":                 {"oneTime", true},
		"http":                    {"insecureHttp", true},
		"private addresses":       {"allowPrivateAddress", true},
		"no authority":            {"caBundle", ""},
		"D8 a leaf":               {"caBundle", string(leaf)},
		"D8 a leaf beside others": {"caBundle", ca.PEM() + string(leaf)},
		"a key":                   {"caBundle", ca.PEM() + string(key)},
		"text after":              {"caBundle", ca.PEM() + "x"},
		"a cut certificate":       {"caBundle", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
		"too many":                {"caBundle", strings.Repeat(ca.PEM(), 33)},
		"an administrator":        {"roles", []string{"admin"}},
	} {
		i, err := oidc.ParseIssuer("farm", document(map[string]any{tc.field: tc.value}))
		var place *strictjson.FieldError
		if !errors.Is(err, oidc.ErrIssuer) || !errors.As(err, &place) || !strings.HasPrefix(place.Pointer, "/"+tc.field) {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
	if _, err := oidc.ParseIssuer("ci", []byte(`{"kind":"generic","url":"mtls:ci","audience":"a"}`)); !errors.Is(err, oidc.ErrIssuer) {
		t.Errorf("an issuer of tokens with the URL of one of certificates: %v", err)
	}
}

// A token cannot say that it is of an issuer of certificates. D8, E6
func TestTokenOfAClientIssuer(t *testing.T) {
	h, i := open(t), testissuer.Start(t)
	h.believe(i, oidc.Generic, nil)
	h.accepts(i.Token(map[string]any{"sub": "client.example.com"}))
	h.issuers["mtls:farm"] = oidc.Issuer{
		Name: "farm", URL: "mtls:farm", Kind: oidc.MTLS, JWKSURL: i.URL + "/keys", Audience: testissuer.Audience,
		InsecureHTTP: true, AllowPrivateAddress: true,
	}
	h.refuses(i.Token(map[string]any{"iss": "mtls:farm", "sub": "client.example.com"}), oidc.ErrUnknownIssuer)
}
