package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/store"
)

// Certificates is the certificate authority as the door serves it.
type Certificates interface {
	// Issue binds a key to an identity. The caller has seen that the identity
	// holds the key.
	Issue(ctx context.Context, r authority.CertificateRequest) (authority.Certificate, error)
	// Chains are all chains that ever issued, the current one last.
	Chains() []authority.Chain
}

// The Fulcio protocol: version 2 as JSON, and version 1 as cosign 2 speaks it.
const (
	fulcioV2Path       = "/api/v2/signingCert"
	fulcioV1Path       = "/api/v1/signingCert"
	fulcioBundlePath   = "/api/v2/trustBundle"
	fulcioConfigPath   = "/api/v2/configuration"
	pemChainType       = "application/pem-certificate-chain"
	certificateBlock   = "CERTIFICATE"
	certificateAllowed = "certificate.issue"
)

// fulcioAudience is the aud that stock clients ask their issuer for.
const fulcioAudience = "sigstore"

// Refusals of the protocol.
var (
	errTwoTokens = errors.New("two different identity tokens")
	errKey       = errors.New("key cannot be read")
	errProof     = errors.New("key is not proven to be the caller's")
)

// fulcioRequest is CreateSigningCertificateRequest of fulcio.proto.
type fulcioRequest struct {
	Credentials struct {
		Token string `json:"oidcIdentityToken"`
	} `json:"credentials"`
	Key struct {
		PublicKey struct {
			Content string `json:"content"`
		} `json:"publicKey"`
		Proof []byte `json:"proofOfPossession"`
	} `json:"publicKeyRequest"`
	CSR []byte `json:"certificateSigningRequest"`
}

// fulcioLegacyRequest is that of fulcio_legacy.proto.
type fulcioLegacyRequest struct {
	PublicKey struct {
		Content []byte `json:"content"`
	} `json:"publicKey"`
	Proof []byte `json:"signedEmailAddress"`
	CSR   []byte `json:"certificateSigningRequest"`
}

type fulcioAnswer struct {
	Embedded struct {
		Chain fulcioChain `json:"chain"`
	} `json:"signedCertificateEmbeddedSct"`
}

type fulcioChain struct {
	// Certificates are PEM, the leaf first.
	Certificates []string `json:"certificates"`
}

type fulcioBundle struct {
	Chains []fulcioChain `json:"chains"`
}

type fulcioConfiguration struct {
	Issuers []fulcioIssuer `json:"issuers"`
}

type fulcioIssuer struct {
	URL       string `json:"issuerUrl"`
	Audience  string `json:"audience"`
	Challenge string `json:"challengeClaim"`
	Type      string `json:"issuerType"`
}

// claimedKey is a key and the proof that its private half is the caller's:
// either a request signed with it, or a signature of the challenge.
type claimedKey struct {
	csr, public, proof []byte
}

func (s *Server) fulcioRoutes() {
	if s.cfg.Certificates == nil {
		return
	}
	s.engine.POST(fulcioV2Path, s.fulcioV2)
	s.engine.POST(fulcioV1Path, s.fulcioV1)
	s.engine.GET(fulcioBundlePath, s.fulcioTrustBundle)
	s.engine.GET(fulcioConfigPath, s.fulcioConfiguration)
	s.document(foreign{http.MethodPost, fulcioV2Path, "createSigningCertificate", "Certificates", "Fulcio v2: a certificate for the identity of an OIDC token, sent as the bearer or in credentials", "application/json", "application/json", http.StatusOK})
	s.document(foreign{http.MethodPost, fulcioV1Path, "createSigningCertificateLegacy", "Certificates", "Fulcio v1: a certificate for the identity of an OIDC token, sent as the bearer", "application/json", pemChainType, http.StatusCreated})
	s.document(foreign{http.MethodGet, fulcioBundlePath, "getCertificateChains", "Certificates", "Fulcio v2: the authority's chains, the current one first", "", "application/json", http.StatusOK})
	s.document(foreign{http.MethodGet, fulcioConfigPath, "getCertificateIssuers", "Certificates", "Fulcio v2: the issuers whose identities are certified", "", "application/json", http.StatusOK})
}

func (s *Server) fulcioV2(c *gin.Context) {
	var r fulcioRequest
	if err := s.fulcioBody(c, &r); err != nil {
		s.fail(c, err)
		return
	}
	chain, err := s.certify(c, r.Credentials.Token, claimedKey{csr: r.CSR, public: []byte(r.Key.PublicKey.Content), proof: r.Key.Proof})
	if err != nil {
		s.fail(c, err)
		return
	}
	var answer fulcioAnswer
	answer.Embedded.Chain = fulcioChain{chain}
	c.JSON(http.StatusOK, answer)
}

// fulcioV1 answers 201 and no SCT header: the timestamp is in the certificate.
func (s *Server) fulcioV1(c *gin.Context) {
	var r fulcioLegacyRequest
	if err := s.fulcioBody(c, &r); err != nil {
		s.fail(c, err)
		return
	}
	chain, err := s.certify(c, "", claimedKey{csr: r.CSR, public: r.PublicKey.Content, proof: r.Proof})
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Data(http.StatusCreated, pemChainType, []byte(strings.Join(chain, "")))
}

// fulcioBody reads a request. Clients of other versions may send more fields.
func (s *Server) fulcioBody(c *gin.Context, into any) error {
	mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return errMediaType
	}
	body, err := io.ReadAll(c.Request.Body)
	if err != nil {
		return readError(err)
	}
	return strictjson.UnmarshalOpen(body, into)
}

// certify is the one way to a certificate: whose token, whose key, may they,
// is that on record, then issue. The chain is PEM, leaf first.
func (s *Server) certify(c *gin.Context, token string, key claimedKey) ([]string, error) {
	ctx := c.Request.Context()
	caller, err := s.fulcioCaller(c, token, key)
	if err != nil {
		return nil, err
	}
	requestOf(ctx).caller = caller
	name, challenge, err := certifiable(caller)
	if err != nil {
		return nil, err
	}
	public, err := key.open(challenge)
	if err != nil {
		return nil, err
	}
	if !caller.Has(identity.Signer) {
		refused := &refusal{cause: errRole, detail: "The issuer's identities do not have the role signer."}
		return nil, errors.Join(refused, s.journal(ctx, certificateAllowed, name, audit.Denied, nil))
	}
	var issued authority.Certificate
	err = s.change(ctx, certificateAllowed, name, nil, func() (err error) {
		issued, err = s.cfg.Certificates.Issue(ctx, authority.CertificateRequest{Identity: caller, Public: public})
		return err
	})
	if err != nil {
		return nil, err
	}
	return encodeChain(append([][]byte{issued.Leaf}, issued.Chain...)), nil
}

// certifiable names the caller and what it must have signed. An error tells
// which claim is at fault, which says nothing of its value.
func certifiable(caller identity.Identity) (name, challenge string, err error) {
	if name, err = authority.Name(caller); err == nil {
		challenge, err = authority.Challenge(caller)
	}
	if err != nil {
		why := strings.TrimPrefix(err.Error(), authority.ErrIdentity.Error()+": ")
		err = &refusal{cause: err, detail: "No certificate can name the token's identity: " + why + "."}
	}
	return name, challenge, err
}

// fulcioCaller believes the one token of the request. A token for one use is
// used for this key: repeating the request after a failure is the same use.
func (s *Server) fulcioCaller(c *gin.Context, token string, key claimedKey) (identity.Identity, error) {
	bearer, err := bearerToken(c.Request.Header.Values("Authorization"))
	switch {
	case err != nil:
		return identity.Identity{}, err
	case bearer != "" && token != "" && bearer != token:
		return identity.Identity{}, fmt.Errorf("%w: %w", errBadCredentials, errTwoTokens)
	case token == "":
		token = bearer
	}
	if token == "" {
		return identity.Identity{}, errNoCredentials
	}
	if s.cfg.IdentityTokens == nil || strings.Count(token, ".") != 2 {
		return identity.Identity{}, errBadCredentials
	}
	sum := sha256.Sum256(slices.Concat(key.public, []byte{0}, key.csr))
	caller, err := s.cfg.IdentityTokens.AuthenticateFor(c.Request.Context(), token, oidc.Demand{
		Audiences: []string{fulcioAudience}, Once: true, Use: "certificate " + hex.EncodeToString(sum[:]),
	})
	if err == nil && caller.IsZero() {
		err = errBadCredentials
	}
	return caller, err
}

// bearerToken is the one bearer there may be, or empty.
func bearerToken(headers []string) (string, error) {
	if len(headers) == 0 {
		return "", nil
	}
	scheme, token, found := strings.Cut(headers[0], " ")
	if len(headers) > 1 || len(headers[0]) > maxBearer || !found || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errBadCredentials
	}
	return token, nil
}

// open returns the key if its holder made the request.
func (k claimedKey) open(challenge string) (crypto.PublicKey, error) {
	switch {
	case len(k.csr) > 0 && len(k.public)+len(k.proof) > 0, len(k.csr) == 0 && len(k.public) == 0:
		return nil, fmt.Errorf("%w: want either a public key with a proof of possession or a certificate signing request", errKey)
	case len(k.csr) > 0:
		return k.openCSR()
	}
	public, err := parsePublic(k.public)
	if err != nil {
		return nil, err
	}
	if err := authority.CheckPublic(public); err != nil {
		return nil, err
	}
	v, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKey, err)
	}
	if err := v.VerifySignature(bytes.NewReader(k.proof), strings.NewReader(challenge)); err != nil {
		return nil, fmt.Errorf("%w: %w", errProof, err)
	}
	return public, nil
}

// openCSR takes nothing but the key from the request.
func (k claimedKey) openCSR() (crypto.PublicKey, error) {
	block, rest := pem.Decode(k.csr)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: not a PEM certificate signing request", errKey)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKey, err)
	}
	if err := authority.CheckPublic(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", errProof, err)
	}
	return csr.PublicKey, nil
}

// parsePublic reads a SubjectPublicKeyInfo, DER or PEM.
func parsePublic(content []byte) (crypto.PublicKey, error) {
	if block, rest := pem.Decode(content); block != nil {
		if block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("%w: not one PEM public key", errKey)
		}
		content = block.Bytes
	}
	public, err := x509.ParsePKIXPublicKey(content)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKey, err)
	}
	return public, nil
}

func (s *Server) fulcioTrustBundle(c *gin.Context) {
	bundle := fulcioBundle{Chains: []fulcioChain{}}
	for _, chain := range slices.Backward(s.cfg.Certificates.Chains()) {
		if !chain.Believed() {
			continue
		}
		var raw [][]byte
		for _, certificate := range chain.Certificates {
			raw = append(raw, certificate.Raw)
		}
		bundle.Chains = append(bundle.Chains, fulcioChain{encodeChain(raw)})
	}
	c.Header("Cache-Control", cacheShort)
	c.JSON(http.StatusOK, bundle)
}

func encodeChain(raw [][]byte) []string {
	out := make([]string, 0, len(raw))
	for _, der := range raw {
		out = append(out, string(pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der})))
	}
	return out
}

// fulcioConfiguration names the issuers whose identities may sign.
func (s *Server) fulcioConfiguration(c *gin.Context) {
	answer := fulcioConfiguration{Issuers: []fulcioIssuer{}}
	page := store.Page{Limit: store.MaxPage}
	for {
		entries, next, err := s.cfg.Catalog.IssuerObjects().List(c.Request.Context(), page)
		if err != nil {
			s.fail(c, err)
			return
		}
		for _, e := range entries {
			if e.Value.Kind != oidc.MTLS && slices.Contains(e.Value.Roles, identity.Signer) {
				answer.Issuers = append(answer.Issuers, wireFulcioIssuer(e.Value))
			}
		}
		if page.Cursor = next; next == "" {
			break
		}
	}
	c.Header("Cache-Control", cacheShort)
	c.JSON(http.StatusOK, answer)
}

// wireFulcioIssuer uses Fulcio's words for the kinds. Clients sign an e-mail
// address where a token has one, which only the generic kind's may.
func wireFulcioIssuer(i oidc.Issuer) fulcioIssuer {
	out := fulcioIssuer{URL: i.URL, Audience: i.Audience, Challenge: "sub", Type: "ci-provider"}
	switch i.Kind {
	case oidc.Kubernetes:
		out.Type = "kubernetes"
	case oidc.Generic:
		out.Type, out.Challenge = "email", "email"
	case oidc.GitHub, oidc.GitLab, oidc.Buildkite, oidc.CircleCI, oidc.MTLS:
	}
	return out
}
