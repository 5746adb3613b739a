package tlog

import (
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorv2 "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// ErrRequest is wrapped by every error of HashedRekordV002FromRequest: the
// client sent something that must not be logged.
var ErrRequest = errors.New("invalid log entry request")

// HashedRekordV002FromRequest builds the body for a Rekor v2 createEntry
// request (protojson, at most limits.LogEntryBody bytes). The signature is
// verified over the digest before the body exists.
//
// Besides hashedRekordRequestV002 it accepts the retired dsseRequestV002 that
// cosign v2.6 and v3.0 send, with exactly one signature and one verifier, and
// logs it as hashedrekord over the pre-authentication encoding, the one form
// that every verifier reads.
func HashedRekordV002FromRequest(request []byte) ([]byte, error) {
	req, err := parseRequest(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	body, err := entryV002(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return body, nil
}

func parseRequest(request []byte) (*rekorv2.HashedRekordRequestV002, error) {
	if len(request) > limits.LogEntryBody {
		return nil, ErrTooLarge
	}
	if err := strictjson.Check(request); err != nil {
		return nil, err
	}
	var create rekorv2.CreateEntryRequest
	if err := protojson.Unmarshal(request, &create); err != nil {
		return nil, errors.New("not a Rekor v2 createEntry request")
	}
	if old := create.GetDsseRequestV002(); old != nil { //nolint:staticcheck // clients in the field still send it
		return fromEnvelope(old)
	}
	req := create.GetHashedRekordRequestV002()
	if req == nil {
		return nil, errors.New("neither hashedRekordRequestV002 nor dsseRequestV002")
	}
	if _, err := checkVerifier(req.GetSignature().GetVerifier()); err != nil {
		return nil, err
	}
	return req, nil
}

// fromEnvelope is Rekor v2's client specification §4.4: the digest of the
// pre-authentication encoding and the envelope's one signature.
func fromEnvelope(old *rekorv2.DSSERequestV002) (*rekorv2.HashedRekordRequestV002, error) { //nolint:staticcheck // clients in the field still send it
	envelope, verifiers := old.GetEnvelope(), old.GetVerifiers() //nolint:staticcheck // as above
	if len(envelope.GetSignatures()) != 1 || len(verifiers) != 1 {
		return nil, errors.New("want exactly one signature and one verifier")
	}
	alg, err := checkVerifier(verifiers[0])
	if err != nil {
		return nil, err
	}
	pae := dsse.PAE(envelope.GetPayloadType(), envelope.GetPayload())
	return &rekorv2.HashedRekordRequestV002{
		Digest:    digestOf(alg.GetHashType(), pae),
		Signature: &rekorv2.Signature{Content: envelope.GetSignatures()[0].GetSig(), Verifier: verifiers[0]},
	}, nil
}

// checkVerifier refuses key details that are not the default of the key: the
// library compares key type and digest only, so PSS would pass for PKCS #1.
func checkVerifier(v *rekorv2.Verifier) (signature.AlgorithmDetails, error) {
	var holder Body
	if err := holder.setVerifier(v.GetPublicKey().GetRawBytes(), v.GetX509Certificate().GetRawBytes()); err != nil {
		return signature.AlgorithmDetails{}, err
	}
	alg, err := algorithmOf(holder.PublicKey)
	if err != nil {
		return signature.AlgorithmDetails{}, err
	}
	if v.GetKeyDetails() == commonpb.PublicKeyDetails_PUBLIC_KEY_DETAILS_UNSPECIFIED || v.GetKeyDetails() != alg.GetSignatureAlgorithm() {
		return signature.AlgorithmDetails{}, fmt.Errorf("keyDetails must be %s for this key", alg.GetSignatureAlgorithm())
	}
	return alg, nil
}
