package localissuer_test

import (
	"context"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/localissuer"
)

func TestTokensVerifyByDiscovery(t *testing.T) {
	ctx := context.Background()
	issuer, err := localissuer.Start(ctx, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = issuer.Close() }()
	raw, err := issuer.Token("countersign", map[string]any{"sub": "build"})
	if err != nil {
		t.Fatal(err)
	}
	provider, err := oidc.NewProvider(ctx, issuer.URL)
	if err != nil {
		t.Fatal(err)
	}
	config := oidc.Config{ClientID: "countersign", SupportedSigningAlgs: []string{oidc.ES256}}
	token, err := provider.Verifier(&config).Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if token.Subject != "build" {
		t.Errorf("subject is %q", token.Subject)
	}
	config.ClientID = "another"
	if _, err := provider.Verifier(&config).Verify(ctx, raw); err == nil {
		t.Error("a token for another audience verifies")
	}
	if _, err := issuer.Token("countersign", map[string]any{"aud": "another"}); err == nil {
		t.Error("the caller chose the audience")
	}
}
