package predicate

import "strings"

// cosignVuln is cosign's record of a scan. Its specification
// (COSIGN_VULN_ATTESTATION_SPEC.md) makes little of it required and scanners
// leave empty what they do not know; a record without a result, or without the
// times that policies judge freshness by, is refused.
func cosignVuln() *rule {
	result := &rule{kinds: anObject | anArray, want: "the scanner's result, an object or a list"}
	return object(
		may("invocation", object(
			may("parameters", anything()), may("uri", text()), may("event_id", text()), may("builder.id", text()),
		)),
		need("scanner", object(
			may("uri", text()),
			may("version", text()),
			may("db", object(may("uri", text()), may("version", text()), may("lastUpdate", moment()))),
			need("result", result),
		)),
		need("metadata", object(need("scanStartedOn", moment()), need("scanFinishedOn", moment()))),
	)
}

// vulns is in-toto's record of a scan, v0.1 and v0.2
// (spec/predicates/vuln.md, vulns_02.md). The text of v0.1 puts each finding
// into an object `vulnerability` and its example does not: both are read.
func vulns() *rule {
	finding := []member{
		may("id", text()),
		may("severity", list(object(need("method", text()), need("score", text())))),
		may("annotations", list(table(anything()))),
	}
	item := object(append(finding, may("vulnerability", object(need("id", text()), need("severity", finding[1].rule), finding[2])))...)
	item.whole = func(h held, fault note) {
		if h.has("vulnerability") {
			return
		}
		if !h.has("id") {
			fault("id", "is missing or empty: want the identifier of the vulnerability")
		}
		if !h.has("severity") {
			fault("severity", "is missing: want a list of methods and scores")
		}
	}
	return object(
		need("scanner", object(
			need("uri", uri()),
			may("version", text()),
			need("db", object(may("uri", uri()), may("version", text()), need("lastUpdate", moment()))),
			need("result", list(item)),
		)),
		need("metadata", object(need("scanStartedOn", moment()), need("scanFinishedOn", moment()))),
	)
}

// openVEX is an OpenVEX document (OPENVEX-SPEC.md, 0.2.0, and the earlier form
// where vulnerabilities and products are texts). Products are optional: they
// cascade from the statement's subjects.
func openVEX(uriOfType string) *rule {
	context := prefixed("https://openvex.dev/ns")
	context.want = "https://openvex.dev/ns, with the version of the document's form"
	context.value = func(s string) bool {
		version, ok := strings.CutPrefix(s, OpenVEX)
		return ok && (version == "" || strings.HasPrefix(version, "/v")) && (uriOfType == OpenVEX || s == uriOfType)
	}
	vulnerability := object(need("name", text()), may("aliases", list(text())))
	vulnerability.kinds, vulnerability.want = aText|anObject, "an object with the name of the vulnerability"
	product := object(may("@id", text()), may("identifiers", table(text())), may("hashes", table(text())))
	product.kinds = aText | anObject
	statement := object(
		need("vulnerability", vulnerability),
		need("status", oneOf("not_affected", "affected", "fixed", "under_investigation")).kept(),
		may("justification", oneOf("component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
			"vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist")),
		may("impact_statement", text()),
		may("action_statement", text()),
		may("products", list(product)),
		may("timestamp", moment()),
	)
	statement.whole = vexReason
	version := &rule{kinds: aNumber | aText, want: "the document's version, a whole number from 1", value: integer(1).value}
	return object(
		need("@context", context),
		need("@id", text()),
		need("author", text()),
		need("timestamp", moment()),
		need("version", version),
		may("last_updated", moment()),
		need("statements", some(list(statement))),
	)
}

// vexReason holds a statement to say why, or what to do.
func vexReason(h held, fault note) {
	switch {
	case h.texts["status"] == "not_affected" && !h.has("justification") && !h.has("impact_statement"):
		fault("justification", "is missing: want a justification or an impact_statement with not_affected")
	case h.texts["status"] == "affected" && !h.has("action_statement"):
		fault("action_statement", "is missing: want what to do about it with affected")
	}
}
