package main

// anyForm is the column of cases to which the form does not matter.
const anyForm = "any"

// forms are the columns: legacy signatures and attestations, bundles, bundles
// of older versions, signatures of the bytes themselves, envelopes of the Notary
// Project. What follows a hyphen: the signer is known by identity, not by key.
func forms() []string {
	return []string{
		"legacy", "legacy-id", "att", "att-id", "bundle", "bundle-id", "attested", "attested-id",
		"v0.1", "v0.2", "message", "message-id", "jws", "cose",
	}
}

// required is a row with the forms in which it must have a case; none means
// that one case anywhere is enough.
type required struct {
	id    string
	forms []string
}

// rows are those of the catalogue that concern verification. Left out are rows
// of packages of another kind (A7), of the log's, the issuer's and the service's
// own doors (B7, B8, D4, D8, E6, E8, E9, G6 to G8, H5, H6, I1, I2, I6, I7, J1,
// J4, K1 to K4): docs/attacks.md says where those are tested.
func rows() []required {
	logged := []string{"legacy", "legacy-id", "att", "att-id", "bundle", "bundle-id", "attested", "attested-id", "v0.1", "v0.2", "message", "message-id"}
	bundles := []string{"bundle", "bundle-id", "attested", "attested-id", "v0.1", "v0.2", "message", "message-id"}
	keyed := []string{"legacy", "att", "bundle", "attested", "v0.1", "v0.2", "message"}
	certified := []string{"legacy-id", "att-id", "bundle-id", "attested-id", "message-id", "jws", "cose"}
	statements := []string{"att", "att-id", "bundle", "bundle-id", "attested", "attested-id", "v0.1", "v0.2"}
	proven := []string{"bundle", "bundle-id", "attested", "attested-id", "v0.2", "message", "message-id"}
	json := []string{"legacy", "legacy-id", "att", "att-id", "bundle", "bundle-id", "attested", "attested-id", "v0.1", "v0.2", "message", "message-id", "jws"}
	every := forms()
	return []required{
		{"A1", every},
		{"A2", logged},
		{"A3", nil},
		{"A4", nil},
		{"A5", append([]string{"legacy", "legacy-id", "jws", "cose"}, statements...)},
		{"A6", every},
		{"A8", every},
		{"A9", every},
		{"B1", logged},
		{"B2", []string{"legacy", "bundle", "v0.1", "v0.2", "message"}},
		{"B3", logged},
		{"B4", logged},
		{"B5", proven},
		{"B6", every},
		{"C1", bundles},
		{"C2", every},
		{"C3", nil},
		{"C4", every},
		{"D1", certified},
		{"D2", keyed},
		{"D3", every},
		{"D5", every},
		{"D6", every},
		{"D7", every},
		{"D9", certified},
		{"E1", nil},
		{"E2", certified},
		{"E3", nil},
		{"E5", certified},
		{"E7", every},
		{"F1", every},
		{"F2", statements},
		{"F3", every},
		{"F4", nil},
		{"F5", every},
		{"F6", nil},
		{"F7", every},
		{"G1", nil},
		{"G2", nil},
		{"G3", every},
		{"G4", nil},
		{"G5", nil},
		{"H1", every},
		{"H2", append([]string{"message"}, statements...)},
		{"H3", every},
		{"H4", nil},
		{"H7", json},
		{"H8", nil},
		{"H9", every},
		{"H10", []string{"jws", "cose"}},
		{"H11", nil},
		{"I3", nil},
		{"I4", nil},
		{"I5", nil},
		{"J2", append([]string{"jws", "cose"}, keyed...)},
		{"J3", every},
		{"J5", logged},
	}
}
