package keys

import "errors"

// Errors of this package. Errors of the store pass through wrapped.
var (
	// ErrNotFound: there is no key of that name.
	ErrNotFound = errors.New("key not found")
	// ErrExists: there is a key of that name already.
	ErrExists = errors.New("key exists already")
	// ErrName: the name is not one a key can have.
	ErrName = errors.New("invalid key name")
	// ErrAlgorithm: the algorithm is not one of Algorithms.
	ErrAlgorithm = errors.New("unknown key algorithm")
	// ErrBackend: the back end is not one this build can use.
	ErrBackend = errors.New("unsupported key back end")
	// ErrRef: the reference is malformed, or not one that callers may name.
	ErrRef = errors.New("key reference not allowed")
	// ErrUnavailable: a back end did not answer in time, is busy or failed;
	// asking again may help.
	ErrUnavailable = errors.New("key back end unavailable")
	// ErrRefused: a back end answered that there is no such key, or that this
	// service may not use it.
	ErrRefused = errors.New("key back end refused")
	// ErrChanged: what a back end signed does not verify with the recorded
	// public half.
	ErrChanged = errors.New("the key behind the reference is not the recorded one")
	// ErrUnchanged: a rotation found the key that is recorded already.
	ErrUnchanged = errors.New("the back end holds no new key")
	// ErrPurpose: the key may not be used or changed this way.
	ErrPurpose = errors.New("not a purpose of this key")
	// ErrTransition: the life cycle has no such step from the key's state.
	ErrTransition = errors.New("not possible in the key's state")
	// ErrNotActive: the current version is not active, so it does not sign.
	ErrNotActive = errors.New("key is not active")
	// ErrForm: the key's algorithm cannot make that form of signature.
	ErrForm = errors.New("the key's algorithm cannot make this form of signature")
	// ErrReason: a revocation without a usable reason or date.
	ErrReason = errors.New("invalid revocation")
	// ErrSealed: a stored key was altered, moved, or sealed under another
	// master key.
	ErrSealed = errors.New("stored key is not authentic")
	// ErrMaster: the master key file is missing what makes it safe to use.
	ErrMaster = errors.New("unusable master key file")
	// ErrSignature: a signature does not verify.
	ErrSignature = errors.New("signature does not verify")
)
