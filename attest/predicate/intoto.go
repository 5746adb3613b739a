package predicate

import "strings"

// linkV03 is an in-toto link as a predicate (spec/predicates/link.md).
func linkV03() *rule {
	materials := list(resource("name", "digest"))
	materials.items = distinct
	return object(
		need("name", text()),
		may("command", list(line())),
		may("materials", materials),
		may("byproducts", table(anything())),
		may("environment", table(anything())),
	)
}

func distinct(names []string) (int, string) {
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		if name != "" && seen[name] {
			return i, "has the name of an item before it: want each name once"
		}
		seen[name] = true
	}
	return 0, ""
}

// linkV1 is the whole link of the in-toto specification 0.9 as cosign writes it:
// with its products, which repeat the subjects.
func linkV1() *rule {
	artifacts := table(digests())
	artifacts.want, artifacts.dense = "an object from paths to digests", true
	return object(
		may("_type", oneOf("link")),
		need("name", text()),
		need("materials", artifacts),
		need("products", artifacts),
		may("command", list(line())),
		may("byproducts", table(anything())),
		may("environment", table(anything())),
	)
}

// testResult is spec/predicates/test-result.md.
func testResult() *rule {
	return object(
		need("result", oneOf("PASSED", "WARNED", "FAILED")),
		need("configuration", list(resource())),
		may("url", uri()),
		may("passedTests", list(text())),
		may("warnedTests", list(text())),
		may("failedTests", list(text())),
	)
}

// scai is an attribute report (spec/predicates/scai.md).
func scai() *rule {
	return object(
		need("attributes", some(list(object(
			need("attribute", text()),
			may("target", resource()),
			may("conditions", table(anything())),
			may("evidence", resource()),
		)))),
		may("producer", resource()),
	)
}

// release is spec/predicates/release.md: a package URL with a version.
func release() *rule {
	return object(
		need("purl", form("a package URL with a version, such as pkg:npm/app@1.2.3", func(s string) bool {
			path, _, _ := strings.Cut(s, "?")
			path, _, _ = strings.Cut(path, "#")
			name, version, ok := strings.Cut(path[strings.LastIndex(path, "/")+1:], "@")
			return strings.HasPrefix(s, "pkg:") && isURI(s) && strings.Contains(path, "/") && ok && name != "" && version != ""
		})),
		may("packageId", text()),
		may("releaseId", text()),
	)
}

// reference is spec/predicates/reference.md.
func reference() *rule {
	return object(
		need("attester", object(need("id", uri()))),
		need("references", some(list(resource("downloadLocation", "mediaType")))),
	)
}

// runtimeTrace is spec/predicates/runtime-trace.md.
func runtimeTrace() *rule {
	log := object(
		may("process", list(table(anything()))),
		may("network", list(table(anything()))),
		may("fileAccess", list(resource())),
	)
	log.whole = func(h held, fault note) {
		if h.bits == 0 {
			fault("", "records nothing: want one of process, network, fileAccess")
		}
	}
	return object(
		need("monitor", object(need("type", uri()), may("configSource", resource()), may("tracePolicy", table(anything())))),
		need("monitoredProcess", object(need("hostID", uri()), need("type", uri()), need("event", text()))),
		need("monitorLog", log),
		may("metadata", object(may("buildStartedOn", moment()), may("buildFinishedOn", moment()))),
	)
}

// svr is a simple verification result (spec/predicates/svr.md).
func svr() *rule {
	return object(
		need("verifier", object(need("id", uri()))),
		need("timeCreated", moment()),
		need("properties", list(text())),
	)
}
