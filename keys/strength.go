package keys

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"math/big"
)

// checkStrength refuses RSA moduli that are weak whatever their length: with a
// small factor, or made by the faulty library of CVE-2017-15361, whose primes
// are powers of 65537 modulo the small primes, and so are their products. Every
// small prime must agree before a modulus counts as one of those; by chance that
// happens to fewer than one in 2^27.
func checkStrength(pub crypto.PublicKey) error {
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return nil // points off their curve do not encode: see KeyID
	}
	if key.E%2 == 0 {
		return fmt.Errorf("%w: the public exponent is even", ErrAlgorithm)
	}
	faulty := true
	for p := int64(2); p <= 167; p++ {
		if !big.NewInt(p).ProbablyPrime(0) {
			continue
		}
		rest := new(big.Int).Mod(key.N, big.NewInt(p)).Int64()
		if rest == 0 {
			return fmt.Errorf("%w: the modulus has a small factor", ErrAlgorithm)
		}
		faulty = faulty && (p == 2 || powerOf65537(rest, p))
	}
	if faulty {
		return fmt.Errorf("%w: the modulus is of the form of CVE-2017-15361", ErrAlgorithm)
	}
	return nil
}

func powerOf65537(n, p int64) bool {
	power := int64(1)
	for range p {
		if power == n {
			return true
		}
		power = power * 65537 % p
	}
	return false
}
