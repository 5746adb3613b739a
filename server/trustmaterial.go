package server

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/trust"
)

// tlsCAPath answers whom to believe for the service's own TLS certificate.
const tlsCAPath = "/v1/trust/tls-ca.pem"

func (s *Server) trustRoutes() {
	s.engine.GET("/v1/trust/trusted_root.json", func(c *gin.Context) {
		s.trustDocument(c, s.cfg.Trust().MarshalTrustedRoot)
	})
	s.engine.GET("/v1/trust/signing_config.json", func(c *gin.Context) {
		s.trustDocument(c, s.cfg.Trust().MarshalSigningConfig)
	})
	s.engine.GET("/v1/trust/notation", func(c *gin.Context) {
		s.trustDocument(c, func() ([]byte, error) { return notationTrust(s.cfg.Trust()) })
	})
	s.engine.GET(tlsCAPath, s.servingCA)
	s.document(foreign{
		http.MethodGet, tlsCAPath, "getTLSAuthority", "Trust",
		"The authority of the service's own TLS certificate, where it makes one itself", "", "application/x-pem-file", http.StatusOK,
	})
	s.document(foreign{http.MethodGet, "/v1/trust/notation", "getNotationTrust", "Trust", "Trust stores and a trust policy for notation", "", "application/json", http.StatusOK})
	s.document(foreign{http.MethodGet, "/v1/trust/trusted_root.json", "getTrustedRoot", "Trust", "Sigstore trusted root: our log and authorities", "", "application/json", http.StatusOK})
	s.document(foreign{http.MethodGet, "/v1/trust/signing_config.json", "getSigningConfig", "Trust", "Sigstore signing configuration for stock clients", "", "application/json", http.StatusOK})
}

// servingCA tells whom to believe to whoever believes already, or compares what
// is answered with what came another way.
func (s *Server) servingCA(c *gin.Context) {
	var bundle []byte
	if s.cfg.ServingCA != nil {
		bundle = s.cfg.ServingCA()
	}
	if len(bundle) == 0 {
		s.fail(c, store.ErrNotFound)
		return
	}
	c.Header("Cache-Control", cacheNever)
	c.Data(http.StatusOK, "application/x-pem-file", bundle)
}

// trustDocument answers bytes that stock clients read, unchanged.
func (s *Server) trustDocument(c *gin.Context, marshal func() ([]byte, error)) {
	document, err := marshal()
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Cache-Control", cacheNever)
	c.Data(http.StatusOK, "application/json", document)
}

// notationPolicy accepts every key of the service for every image: whoever
// believes one key only names it under trustedIdentities.
const notationPolicy = `{"version":"1.0","trustPolicies":[{"name":"countersign","registryScopes":["*"],` +
	`"signatureVerification":{"level":"strict"},"trustStores":["ca:countersign","tsa:countersign"],"trustedIdentities":["*"]}]}`

// notationTrust is what notation must believe to verify what is signed here.
func notationTrust(root trust.Root) ([]byte, error) {
	out := api.NotationTrust{TrustPolicy: json.RawMessage(notationPolicy), CA: pemOf(root.NotaryRoots)}
	var stampers []*x509.Certificate
	for _, a := range root.TimestampAuthorities {
		last := a.Chain[len(a.Chain)-1]
		if !slices.ContainsFunc(stampers, last.Equal) {
			stampers = append(stampers, last)
		}
	}
	out.TSA = pemOf(stampers)
	return json.Marshal(out)
}

func pemOf(certificates []*x509.Certificate) []string {
	out := make([]string, 0, len(certificates))
	for _, c := range certificates {
		var b bytes.Buffer
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err == nil {
			out = append(out, b.String())
		}
	}
	return out
}
