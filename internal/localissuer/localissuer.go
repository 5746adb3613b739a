// Package localissuer is an OpenID Connect issuer on a loopback address, for the
// demo: real discovery, a real key set, and tokens with the claims it is told.
//
// It signs whatever it is asked to and keeps nothing: never put it in front of
// others.
package localissuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/internal/clock"
)

// lifetime is how long a token is good.
const lifetime = 5 * time.Minute

// Issuer is a running issuer.
type Issuer struct {
	// URL is the iss of its tokens.
	URL string

	clock   clock.Clock
	private *ecdsa.PrivateKey
	server  *http.Server
	done    chan struct{}
}

// Start serves an issuer with one ES256 key on a free port of 127.0.0.1 until
// Close.
func Start(ctx context.Context, c clock.Clock) (*Issuer, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	i := &Issuer{URL: "http://" + listener.Addr().String(), clock: c, private: private, done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys", i.keys)
	i.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(i.done)
		_ = i.server.Serve(listener) // always an error; ErrServerClosed after Close
	}()
	return i, nil
}

// Close stops the issuer.
func (i *Issuer) Close() error {
	err := i.server.Close()
	<-i.done
	return err
}

// Token signs a token for an audience with the given claims. They may not say
// what the issuer itself says: iss, aud, iat, nbf, exp and jti.
func (i *Issuer) Token(audience string, claims map[string]any) (string, error) {
	now := i.clock.Now()
	all := maps.Clone(claims)
	for name, value := range map[string]any{
		"iss": i.URL, "aud": audience, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(lifetime).Unix(), "jti": rand.Text(),
	} {
		if _, said := all[name]; said {
			return "", errors.New("the issuer alone says " + name)
		}
		all[name] = value
	}
	payload, err := json.Marshal(all)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.private, KeyID: keyID}}
	signer, err := jose.NewSigner(key, new(jose.SignerOptions).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("preparing to sign a token: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return signed.CompactSerialize()
}

const keyID = "local-1"

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{
		"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{string(jose.ES256)},
		"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
	})
}

func (i *Issuer) keys(w http.ResponseWriter, _ *http.Request) {
	answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: i.private.Public(), KeyID: keyID, Algorithm: string(jose.ES256), Use: "sig"},
	}})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}
