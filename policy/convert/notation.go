package convert

// notationPolicies reads trustpolicy.json. Its signers are certificates of X.509
// trust stores, which are files beside it, so that nothing is
// produced: the report says what each field asks for.
func notationPolicies(_ *reader, roots []field) {
	for _, root := range roots {
		root.get("version").want("read", "1.0")
		for _, statement := range root.get("trustPolicies").items() {
			notationStatement(statement)
			statement.void("the statement is refused: its signers are certificates of trust stores, which are not in this document: write an x509 authority with them")
		}
		root.remark(Refused, "/trustPolicies", "nothing is produced without the certificates of the trust stores: write an x509 authority with them, or sign the images again")
	}
}

func notationStatement(s field) {
	s.get("name").exact("names the policy")
	s.get("registryScopes").refuse("would be match.images, of repositories exactly, or */** for *")
	s.get("globalPolicy").refuse("is the policy of blobs, of which TrustPolicies do not speak")
	level := s.get("signatureVerification", "level")
	switch level.text() {
	case "skip":
		level.refuse("admits without a signature: leave these images to no policy, which denies, or add an exception with a digest and an end")
	case "audit", "permissive":
		level.refuse("would be mode: warn for the checks that it does not enforce; which those are cannot be chosen here")
	default:
		level.refuse("would be mode: enforce")
	}
	s.get("signatureVerification", "override").refuse("single checks cannot be switched off or only logged")
	s.get("signatureVerification", "verifyTimestamp").refuse("when a timestamp is needed cannot be chosen")
	s.get("trustStores").refuse("certificates of trust stores are not read")
	for _, who := range s.get("trustedIdentities").items() {
		if who.is("*") {
			who.refuse("would let in every certificate of the store")
			continue
		}
		who.refuse("would be among the subjects of an x509 authority")
	}
}
