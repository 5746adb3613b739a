package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	vault "github.com/hashicorp/vault/api"
	"github.com/sigstore/sigstore/pkg/signature/kms/aws"
	"github.com/sigstore/sigstore/pkg/signature/kms/azure"
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/keys"
)

// Backends are the back ends of this package by name.
func Backends() map[string]keys.Backend {
	return map[string]keys.Backend{
		keys.BackendHashivault: hashivaultService(),
		keys.BackendAWS:        awsService(),
		keys.BackendGCP:        gcpService(),
		keys.BackendAzure:      azureService(),
	}
}

// hashivaultService reads VAULT_ADDR, VAULT_TOKEN (else ~/.vault-token) and
// TRANSIT_SECRET_ENGINE_PATH.
func hashivaultService() service {
	return service{
		valid: hashivault.ValidReference,
		load: func(_ context.Context, ref string) (client, error) {
			return hashivault.LoadSignerVerifier(ref, crypto.SHA256)
		},
		refused: func(err error) bool {
			var answer *vault.ResponseError
			if errors.As(err, &answer) {
				return refusal(answer.StatusCode)
			}
			// The client says this, and nothing more exact, of a key that is not
			// there.
			return strings.Contains(err.Error(), "could not read data from transit key path")
		},
		signs: func(pub crypto.PublicKey, hash crypto.Hash) bool {
			switch pub.(type) {
			case *ecdsa.PublicKey:
				return hash == crypto.SHA256 || hash == crypto.SHA384
			case *rsa.PublicKey:
				return hash == crypto.SHA256
			default:
				return false
			}
		},
		reload: true,
	}
}

// awsService uses the default credential chain of the AWS SDK.
func awsService() service {
	return service{
		valid: aws.ValidReference,
		load: func(ctx context.Context, ref string) (client, error) {
			return aws.LoadSignerVerifier(ctx, ref)
		},
		refused: refusedByAWS,
		signs:   natural,
	}
}

// refusedByAWS knows that AWS answers 400 to a caller that is too fast and for
// a key store that is away.
func refusedByAWS(err error) bool {
	var answer interface{ HTTPStatusCode() int }
	if !errors.As(err, &answer) || !refusal(answer.HTTPStatusCode()) {
		return false
	}
	var named interface{ ErrorCode() string }
	if !errors.As(err, &named) {
		return true
	}
	for _, passing := range []string{"Throttl", "LimitExceeded", "Timeout", "Unavailable", "Internal"} {
		if strings.Contains(named.ErrorCode(), passing) {
			return false
		}
	}
	return true
}

// gcpService uses application default credentials. Its client keeps the
// context it is made with.
func gcpService() service {
	return service{
		valid: gcp.ValidReference,
		load: func(ctx context.Context, ref string) (client, error) {
			return gcp.LoadSignerVerifier(context.WithoutCancel(ctx), ref)
		},
		refused: func(err error) bool {
			var answer interface{ GRPCStatus() *status.Status }
			if !errors.As(err, &answer) {
				return false
			}
			switch answer.GRPCStatus().Code() {
			case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.FailedPrecondition, codes.Unauthenticated, codes.Unimplemented:
				return true
			default:
				return false
			}
		},
		signs: natural,
	}
}

// azureService uses the default credential chain of the Azure SDK.
func azureService() service {
	return service{
		valid: azure.ValidReference,
		load: func(ctx context.Context, ref string) (client, error) {
			return azure.LoadSignerVerifier(context.WithoutCancel(ctx), ref)
		},
		refused: func(err error) bool {
			var answer *azcore.ResponseError
			return errors.As(err, &answer) && refusal(answer.StatusCode)
		},
		signs: func(pub crypto.PublicKey, hash crypto.Hash) bool {
			_, rsaKey := pub.(*rsa.PublicKey)
			return !rsaKey && natural(pub, hash)
		},
	}
}

// refusal reports whether an HTTP status is a no that stays one.
func refusal(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}
