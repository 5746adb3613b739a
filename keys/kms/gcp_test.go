package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"hash/crc32"
	"net"
	"strconv"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/keystest"
)

const gcpRing = "projects/p/locations/l/keyRings/r/cryptoKeys/"

// gcpDouble is Cloud KMS's gRPC service as far as the client uses it.
type gcpDouble struct {
	kmspb.UnimplementedKeyManagementServiceServer
	*shelf
}

func (g gcpDouble) find(name string) (crypto.Signer, string, error) {
	if g.wait() {
		return nil, "", status.Error(codes.Unavailable, "down")
	}
	name = strings.TrimPrefix(name, gcpRing)
	name, wanted, _ := strings.Cut(name, "/cryptoKeyVersions/")
	private, version := g.current(name)
	if private == nil {
		return nil, "", status.Error(codes.NotFound, "no such key")
	}
	if n, err := strconv.Atoi(wanted); err == nil { // older versions go on signing
		g.mu.Lock()
		private, version = g.versions[name][n-1], n
		g.mu.Unlock()
	}
	return private, gcpRing + name + "/cryptoKeyVersions/" + strconv.Itoa(version), nil
}

func (g gcpDouble) GetCryptoKey(_ context.Context, r *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	_, _, err := g.find(r.GetName())
	return &kmspb.CryptoKey{Name: r.GetName(), Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN}, err
}

func (g gcpDouble) ListCryptoKeyVersions(_ context.Context, r *kmspb.ListCryptoKeyVersionsRequest) (*kmspb.ListCryptoKeyVersionsResponse, error) {
	private, name, err := g.find(r.GetParent())
	if err != nil {
		return nil, err
	}
	if r.GetFilter() != "state=ENABLED" {
		g.t.Errorf("filter %q", r.GetFilter())
	}
	algorithm, _ := gcpAlgorithm(private)
	return &kmspb.ListCryptoKeyVersionsResponse{CryptoKeyVersions: []*kmspb.CryptoKeyVersion{{Name: name, Algorithm: algorithm}}}, nil
}

func (g gcpDouble) GetPublicKey(_ context.Context, r *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	private, _, err := g.find(r.GetName())
	if err != nil {
		return nil, err
	}
	return &kmspb.PublicKey{Pem: publicPEM(g.t, private)}, nil
}

func (g gcpDouble) AsymmetricSign(_ context.Context, r *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	private, _, err := g.find(r.GetName())
	if err != nil {
		return nil, err
	}
	_, hash := gcpAlgorithm(private)
	digest := r.GetDigest().GetSha256()
	if hash == crypto.SHA384 {
		digest = r.GetDigest().GetSha384()
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	if int64(crc32.Checksum(digest, table)) != r.GetDigestCrc32C().GetValue() {
		g.t.Error("the digest's checksum is wrong")
	}
	signature := g.sign(private, digest, hash)
	return &kmspb.AsymmetricSignResponse{
		Signature: signature, VerifiedDigestCrc32C: true,
		SignatureCrc32C: wrapperspb.Int64(int64(crc32.Checksum(signature, table))),
	}, nil
}

func gcpAlgorithm(private crypto.Signer) (kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm, crypto.Hash) {
	if k, ok := private.Public().(*ecdsa.PublicKey); ok {
		switch k.Curve.Params().BitSize {
		case 256:
			return kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256, crypto.SHA256
		case 384:
			return kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384, crypto.SHA384
		default:
			return kmspb.CryptoKeyVersion_EC_SIGN_SECP256K1_SHA256, crypto.SHA256
		}
	}
	return kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_3072_SHA256, crypto.SHA256
}

func TestBackendGCPDouble(t *testing.T) {
	t.Log("a double of Cloud KMS, reached without credentials; the service itself was not called")
	s := newShelf(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(server, gcpDouble{shelf: s})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	service := gcpService()
	// Everything but the address and the credentials is what runs outside.
	service.load = func(ctx context.Context, ref string) (client, error) {
		return gcp.LoadSignerVerifier(context.WithoutCancel(ctx), ref, option.WithEndpoint(listener.Addr().String()),
			option.WithoutAuthentication(), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	const scheme = "gcpkms://" + gcpRing
	peer := s.peer(keys.BackendGCP, service,
		func(key string) string { return scheme + key }, func(ref string) string { return strings.TrimPrefix(ref, scheme) })
	// The client refuses algorithms it does not know before anybody else can.
	peer.Foreign, peer.Pinned = "", true
	if _, err := service.Open(t.Context(), scheme+"p521"); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("a key of another algorithm: %v", err)
	}
	keystest.Run(t, peer)
}
