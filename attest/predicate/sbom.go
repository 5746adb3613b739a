package predicate

import (
	"encoding/hex"
	"slices"
	"strings"
)

// spdx is an SPDX document in JSON: 2.2 or 2.3 (SPDX specification 2.3,
// sections 6 to 11), or the JSON-LD of version 3, which its `@context` tells.
// The type's URI may ask for one of them. A tag-value document is no JSON
// object and not taken.
func spdx(uriOfType string) *rule {
	r := object(
		may("spdxVersion", oneOf("SPDX-2.2", "SPDX-2.3")).kept(),
		may("@context", form("an SPDX 3 context, such as https://spdx.org/rdf/3.0.1/spdx-context.jsonld", func(s string) bool {
			return strings.HasPrefix(s, "https://spdx.org/rdf/3.")
		})),
		may("@graph", some(list(spdxElement()))),
		may("dataLicense", oneOf("CC0-1.0")),
		may("SPDXID", oneOf("SPDXRef-DOCUMENT")),
		may("name", text()),
		may("documentNamespace", form("a URI without a fragment", func(s string) bool { return isURI(s) && !strings.Contains(s, "#") })),
		may("creationInfo", spdxCreation()),
		may("packages", list(spdxPackage())),
		may("files", list(object(need("fileName", text()), need("SPDXID", prefixed("SPDXRef-")), may("checksums", list(spdxChecksum()))))),
		may("relationships", list(object(
			need("spdxElementId", text()), need("relationshipType", text()), need("relatedSpdxElement", text()),
		))),
	)
	r.whole = func(h held, fault note) {
		if h.has("@context") && !h.has("spdxVersion") {
			spdx3Whole(h, uriOfType, fault)
			return
		}
		spdx2Whole(h, uriOfType, fault)
	}
	return r
}

func spdx2Whole(h held, uriOfType string, fault note) {
	if uriOfType == SPDXV3 {
		fault("@context", "is missing: want an SPDX 3 document under "+SPDXV3)
		return
	}
	if uriOfType == SPDXV23 && h.texts["spdxVersion"] == "SPDX-2.2" {
		fault("spdxVersion", "is invalid: want SPDX-2.3 under "+SPDXV23)
	}
	for _, name := range []string{"spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo"} {
		if !h.has(name) {
			fault(name, "is missing or empty: want "+h.rule.members[name].rule.want)
		}
	}
}

func spdx3Whole(h held, uriOfType string, fault note) {
	if uriOfType == SPDXV23 {
		fault("spdxVersion", "is missing: want an SPDX 2.3 document under "+SPDXV23)
	}
	if !h.has("@graph") {
		fault("@graph", "is missing or empty: want the list of elements")
	}
}

// spdxElement is an element of an SPDX 3 graph.
func spdxElement() *rule {
	r := object(
		need("type", text()).kept(),
		may("spdxId", uri()),
		may("@id", text()),
		may("specVersion", prefixed("3.")),
		may("created", moment()),
		may("createdBy", list(text())),
	)
	r.whole = func(h held, fault note) {
		for _, name := range []string{"specVersion", "created", "createdBy"} {
			if h.texts["type"] == "CreationInfo" && !h.has(name) {
				fault(name, "is missing or empty: want "+h.rule.members[name].rule.want)
			}
		}
	}
	return r
}

func spdxCreation() *rule {
	return object(
		need("creators", some(list(form("Tool:, Organization: or Person: and a name", func(s string) bool {
			kind, name, ok := strings.Cut(s, ":")
			return ok && strings.TrimSpace(name) != "" && slices.Contains([]string{"Tool", "Organization", "Person"}, kind)
		})))),
		need("created", moment()),
	)
}

func spdxPackage() *rule {
	return object(
		need("name", text()),
		need("SPDXID", prefixed("SPDXRef-")),
		need("downloadLocation", text()),
		may("versionInfo", text()),
		may("filesAnalyzed", boolean()),
		may("checksums", list(spdxChecksum())),
		may("externalRefs", list(object(
			need("referenceCategory", text()), need("referenceType", text()), need("referenceLocator", text()),
		))),
	)
}

func spdxChecksum() *rule {
	return object(need("algorithm", text()), need("checksumValue", form("hexadecimal digits", isHex)))
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil
}

// cycloneDX is a CycloneDX document in JSON of version 1.2 to 1.7 (the schemas
// bom-1.x.schema.json), or of the one version that the type's URI names. What a
// version added is not refused in an earlier one.
func cycloneDX(version string) *rule {
	versions := []string{"1.2", "1.3", "1.4", "1.5", "1.6", "1.7"}
	if slices.Contains(versions, version) {
		versions = []string{version}
	}
	component := cycloneComponent()
	r := object(
		may("$schema", text()),
		need("bomFormat", oneOf("CycloneDX")),
		need("specVersion", oneOf(versions...)).kept(),
		may("version", integer(1)),
		may("serialNumber", form("urn:uuid: and a UUID", isURNUUID)),
		may("metadata", object(may("timestamp", moment()), may("component", component))),
		may("components", list(component)),
		may("services", list(object(need("name", text())))),
		may("dependencies", list(object(need("ref", text()), may("dependsOn", list(text()))))),
		may("vulnerabilities", list(object(may("id", text()), may("affects", list(object(need("ref", text()))))))),
	)
	r.whole = func(h held, fault note) {
		if h.has("specVersion") && h.texts["specVersion"] < "1.5" && !h.has("version") {
			fault("version", "is missing: want a whole number, required before CycloneDX 1.5")
		}
	}
	return r
}

func cycloneComponent() *rule {
	hash := object(
		need("alg", oneOf("MD5", "SHA-1", "SHA-256", "SHA-384", "SHA-512", "SHA3-256", "SHA3-384", "SHA3-512",
			"BLAKE2b-256", "BLAKE2b-384", "BLAKE2b-512", "BLAKE3", "Streebog-256", "Streebog-512")),
		need("content", form("32 to 128 hexadecimal digits", func(s string) bool { return isHex(s) && slices.Contains([]int{32, 40, 64, 96, 128}, len(s)) })),
	)
	r := object(
		need("type", oneOf("application", "framework", "library", "container", "platform", "operating-system", "device", "device-driver",
			"firmware", "file", "machine-learning-model", "data", "cryptographic-asset")),
		need("name", text()),
		may("bom-ref", text()),
		may("version", text()),
		may("purl", prefixed("pkg:")),
		may("hashes", list(hash)),
	)
	r.add(may("components", list(r)))
	return r
}

func isURNUUID(s string) bool {
	id, ok := strings.CutPrefix(s, "urn:uuid:")
	if !ok || len(id) != 36 {
		return false
	}
	for i := range len(id) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (id[i] == '-') || !dash && !isHex("0"+id[i:i+1]) {
			return false
		}
	}
	return true
}
