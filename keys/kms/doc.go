// Package kms opens signing keys in HashiCorp Vault (or OpenBao) and in the key
// management services of AWS, Google Cloud and Azure, through sigstore's
// clients, so that a reference means here what it means to cosign:
//
//	hashivault  hashivault://NAME, openbao://NAME
//	awskms      awskms://[ENDPOINT]/ARN, …/KEY-ID or …/alias/NAME
//	gcpkms      gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K[/cryptoKeyVersions/N]
//	azurekms    azurekms://VAULT-HOST/KEY[/VERSION]
//
// Credentials are the process's own, from where each client looks for them;
// no reference carries one. The clients are asked to sign a digest and for a
// public half; keys are neither made nor deleted here, and a signature is
// verified by the caller, locally.
//
// What a service cannot sign (keys.ErrForm):
//
//	           ecdsa-p256  ecdsa-p384           rsa-3072, rsa-4096
//	hashivault SHA-256     SHA-256, SHA-384     SHA-256
//	awskms     SHA-256     SHA-384              SHA-256 (see below)
//	gcpkms     SHA-256     SHA-384              SHA-256
//	azurekms   SHA-256     SHA-384              none: the client picks SHA-384 or SHA-512 by size
//
// The AWS client signs with the first algorithm that AWS lists for an RSA key;
// when that is not PKCS #1 v1.5 with SHA-256, the signature does not verify and
// the key is refused at adoption. Ed25519 is refused everywhere: none of these
// services makes Ed25519ph signatures of a digest.
package kms
