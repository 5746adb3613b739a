package predicate

import (
	"regexp"
	"slices"
	"strings"
)

// slsaV1 is provenance v1: what is required at build level 1 must be there
// (slsa.dev/spec/v1.2/build-provenance).
func slsaV1() *rule {
	definition := object(
		need("buildType", uri()),
		need("externalParameters", some(table(anything()))),
		may("internalParameters", table(anything())),
		may("resolvedDependencies", list(resource())),
	)
	builder := object(
		need("id", uri()),
		may("version", table(text())),
		may("builderDependencies", list(resource())),
	)
	metadata := object(
		may("invocationId", text()),
		may("invocationID", text()), // in-toto-golang before v0.10
		may("startedOn", moment()),
		may("finishedOn", moment()),
	)
	return object(
		need("buildDefinition", definition),
		need("runDetails", object(
			need("builder", builder),
			may("metadata", metadata),
			may("byproducts", list(resource())),
		)),
	)
}

// slsaV02 is provenance v0.2 (slsa.dev/provenance/v0.2). Its buildType need not
// be a URI: Tekton writes tekton.dev/v1beta1/TaskRun.
func slsaV02() *rule {
	return object(
		need("builder", object(need("id", uri()))),
		need("buildType", text()),
		may("invocation", object(
			may("configSource", object(may("uri", uri()), may("digest", digests()), may("entryPoint", text()))),
			may("parameters", anything()),
			may("environment", anything()),
		)),
		may("buildConfig", anything()),
		may("metadata", object(
			may("buildInvocationId", text()),
			may("buildInvocationID", text()), // in-toto-golang
			may("buildStartedOn", moment()),
			may("buildFinishedOn", moment()),
			may("completeness", object(may("parameters", boolean()), may("environment", boolean()), may("materials", boolean()))),
			may("reproducible", boolean()),
		)),
		may("materials", list(object(may("uri", uri()), may("digest", digests())))),
	)
}

// slsaV01 is provenance v0.1 (slsa.dev/provenance/v0.1).
func slsaV01() *rule {
	return object(
		need("builder", object(need("id", uri()))),
		need("recipe", object(need("type", uri()))),
		may("materials", list(object(may("uri", uri()), may("digest", digests())))),
	)
}

// vsaV1 is a verification summary (slsa.dev/spec/v1.2/verification_summary).
func vsaV1() *rule {
	levels := some(list(level()))
	levels.items = oneLevelPerTrack
	counts := table(integer(0))
	counts.dense = true
	counts.pair = func(name, _ string) string {
		if !isLevel(name) {
			return level().want + " as the name"
		}
		return ""
	}
	return object(
		need("verifier", object(need("id", uri()), may("version", table(text())))),
		may("timeVerified", moment()),
		need("resourceUri", uri()),
		need("policy", resource("uri")),
		may("inputAttestations", list(resource("digest"))),
		need("verificationResult", oneOf("PASSED", "FAILED")),
		need("verifiedLevels", levels),
		may("dependencyLevels", counts),
		may("slsaVersion", form("<major>.<minor>, such as 1.2", regexp.MustCompile(`^[0-9]+\.[0-9]+$`).MatchString)),
	)
}

func level() *rule {
	return form("a level as SLSA_BUILD_LEVEL_0 to SLSA_BUILD_LEVEL_3, SLSA_SOURCE_LEVEL_0 to SLSA_SOURCE_LEVEL_4, "+
		"SLSA_<TRACK>_LEVEL_UNEVALUATED, FAILED, or a word of your own that does not begin with SLSA_", isLevel)
}

// isLevel reports whether a text is an SlsaResult. Names that begin with SLSA_
// belong to SLSA: they are a level of a track, or a verified property of the
// draft that follows v1.2.
func isLevel(s string) bool {
	rest, ours := strings.CutPrefix(s, "SLSA_")
	if !ours {
		return true
	}
	track, n, ok := strings.Cut(rest, "_LEVEL_")
	if !ok {
		return s == "SLSA_SOURCE_TWO_PARTY_REVIEWED" || s == "SLSA_BUILD_REPRODUCED"
	}
	highest := "9"
	switch track {
	case "":
		return false
	case "BUILD":
		highest = "3"
	case "SOURCE":
		highest = "4"
	}
	return !strings.ContainsFunc(track, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '_' }) &&
		(n == "UNEVALUATED" || len(n) == 1 && n >= "0" && n <= highest)
}

func oneLevelPerTrack(levels []string) (int, string) {
	var tracks []string
	for i, l := range levels {
		track, _, isTrack := strings.Cut(l, "_LEVEL_")
		if !isTrack || !strings.HasPrefix(l, "SLSA_") {
			continue
		}
		if slices.Contains(tracks, track) {
			return i, "is the second level of its track: want the highest alone"
		}
		tracks = append(tracks, track)
	}
	return 0, ""
}
