package convert

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/trust"
)

// trustRoots reads TrustRoot objects whose keys are inline.
func trustRoots(r *reader, roots []field) {
	for _, root := range roots {
		head(root, "TrustRoot", "policy.sigstore.dev/v1alpha1", "policy.sigstore.dev/v1beta1")
		spec := root.get("spec")
		spec.get("remote").refuse("a TUF repository is not followed: fetch its trusted_root.json (cosign initialize) and apply that as a trust root")
		spec.get("repository").refuse("a packed TUF repository is not read: take trusted_root.json out of its targets and apply that as a trust root")
		keys := spec.get("sigstoreKeys")
		if !keys.present() {
			root.remark(Refused, "/spec/sigstoreKeys", "there is no inline material to take over")
			root.void("the trust root is refused")
			continue
		}
		document := map[string]any{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}
		for from, to := range map[string]string{"tLogs": "tlogs", "ctLogs": "ctlogs"} {
			document[to] = logInstances(keys.get(from))
		}
		for from, to := range map[string]string{"certificateAuthorities": "certificateAuthorities", "timestampAuthorities": "timestampAuthorities"} {
			document[to] = authorityInstances(keys.get(from))
		}
		keepRoot(r, root, document)
	}
}

func keepRoot(r *reader, root field, document map[string]any) {
	name := root.get("metadata", "name").text()
	if name != nameOf(name) || name == "self" || r.names["root/"+name] {
		root.remark(Refused, "/metadata/name", "cannot be the name of a trust root here, or is there twice")
	}
	if !root.sound() {
		root.void("the trust root is refused for another of its fields")
		return
	}
	raw, err := strictjson.Marshal(document)
	if err == nil {
		_, err = trust.ParseTrustedRoot(raw)
	}
	if err != nil {
		root.remark(Refused, "", "is no trusted root: %s", err.Error())
		root.void("the trust root is refused")
		return
	}
	r.names["root/"+name] = true
	r.roots = append(r.roots, NamedRoot{Name: name, JSON: raw})
}

func logInstances(list field) []any {
	out := []any{}
	for _, item := range list.items() {
		der := publicKey(item.get("publicKey"))
		id := sha256.Sum256(der)
		item.get("baseURL").exact("names the log")
		item.get("hashAlgorithm").want("SHA-256", "sha-256", "sha256", "SHA2_256")
		if given := item.get("logID"); given.present() {
			given.refuse("the id of a log is the digest of its key: remove it")
		}
		out = append(out, map[string]any{
			"baseUrl": item.get("baseURL").text(), "hashAlgorithm": "SHA2_256",
			"publicKey": map[string]any{"rawBytes": base64.StdEncoding.EncodeToString(der), "keyDetails": keyDetails(item, der), "validFor": map[string]any{"start": "1970-01-01T00:00:00Z"}},
			"logId":     map[string]any{"keyId": base64.StdEncoding.EncodeToString(id[:])},
		})
	}
	return out
}

// publicKey is the DER of a key in PEM in base64.
func publicKey(f field) []byte {
	text, err := base64.StdEncoding.DecodeString(f.text())
	block, rest := pem.Decode(text)
	if err != nil || block == nil || len(rest) != 0 || block.Type != "PUBLIC KEY" {
		f.refuse("is not the base64 of one PEM public key")
		return nil
	}
	f.exact("the key of the log")
	return block.Bytes
}

func keyDetails(item field, der []byte) string {
	key, err := x509.ParsePKIXPublicKey(der)
	details := ""
	if err == nil {
		details = detailsOf(key)
	}
	if details == "" {
		item.get("publicKey").refuse("is a key of a kind that is not known here: want ECDSA P-256 or P-384, or Ed25519")
	}
	return details
}

func authorityInstances(list field) []any {
	out := []any{}
	for _, item := range list.items() {
		item.get("subject").exact("stands in the certificates")
		item.get("uri").exact("names the authority")
		var certificates []any
		rest, err := base64.StdEncoding.DecodeString(item.get("certChain").text())
		for len(rest) > 0 && err == nil {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
				certificates = nil
				break
			}
			certificates = append(certificates, map[string]any{"rawBytes": base64.StdEncoding.EncodeToString(block.Bytes)})
		}
		if len(certificates) == 0 {
			item.get("certChain").refuse("is not the base64 of certificates in PEM")
		}
		item.get("certChain").exact("the authority's certificates")
		out = append(out, map[string]any{
			"uri": item.get("uri").text(), "certChain": map[string]any{"certificates": certificates},
			"validFor": map[string]any{"start": "1970-01-01T00:00:00Z"},
		})
	}
	return out
}
