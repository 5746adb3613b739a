//go:build interop

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Keys of cosign's legacy annotations.
const (
	legacySignature = "dev.cosignproject.cosign/signature"
	legacyBundle    = "dev.sigstore.cosign/bundle"
)

// states are what happened to images, by name.
var states = map[string]state{
	"unsigned": {},
	// By a managed key.
	"release-notation":    {deeds: []deed{ours("release", "notation")}},
	"other-notation":      {deeds: []deed{ours("other", "notation")}},
	"release-bundle":      {deeds: []deed{ours("release", "bundle")}},
	"release-legacy":      {deeds: []deed{ours("release", "legacy")}},
	"release-both":        {deeds: []deed{ours("release", "bundle", "legacy")}},
	"release-and-other":   {deeds: []deed{ours("release", "bundle"), ours("other", "bundle")}},
	"other-bundle":        {deeds: []deed{ours("other", "bundle")}},
	"other-legacy":        {deeds: []deed{ours("other", "legacy")}},
	"turned-early":        {deeds: []deed{ours("turned", "bundle", "legacy")}},
	"leaked-both":         {deeds: []deed{ours("leaked", "bundle", "legacy")}},
	"release-stripped":    {deeds: []deed{ours("release", "bundle"), stripped}},
	"release-transplant":  {deeds: []deed{transplanted(ours("release", "bundle"))}},
	"release-transplants": {deeds: []deed{transplanted(ours("release", "legacy"))}},
	"release-legacy-set":  {deeds: []deed{ours("release", "legacy"), alteredTag(".sig", flipped(legacyBundle), nil)}},
	"index":               {index: true, deeds: []deed{oursWith("release", nil, false, "bundle")}},
	"index-child":         {index: true, deeds: []deed{oursWith("release", nil, false, "bundle")}, ask: child},
	"index-recursive":     {index: true, deeds: []deed{oursWith("release", nil, true, "bundle", "legacy")}, ask: child},
	"tag":                 {deeds: []deed{ours("release", "bundle")}, ask: tagged(false)},
	"tag-moved":           {deeds: []deed{ours("release", "bundle")}, ask: tagged(true)},
	"copy-annotated":      {deeds: []deed{ours("release", "bundle", "legacy")}, ask: copied(reannotated)},
	"copy-layer":          {deeds: []deed{ours("release", "bundle", "legacy")}, ask: copied(relayered)},
	// By key pairs that only stock cosign has.
	"team-legacy":           {deeds: []deed{stock(cosignV2, "team", "legacy")}},
	"team-legacy-annotated": {deeds: []deed{stock(cosignV2, "team", "legacy", "-a", "env=prod")}},
	"team-bundle-v2":        {deeds: []deed{stock(cosignV2, "team", "plain")}},
	"team-bundle-v3":        {deeds: []deed{stock(cosignV3, "team", "plain")}},
	"team-stamped":          {deeds: []deed{stock(cosignV3, "team", "stamped")}},
	"team-logged-v2":        {deeds: []deed{stock(cosignV2, "team", "logged")}},
	"team-logged-v3":        {deeds: []deed{stock(cosignV3, "team", "logged")}},
	"rival-legacy":          {deeds: []deed{stock(cosignV2, "rival", "legacy")}},
	"rival-bundle":          {deeds: []deed{stock(cosignV3, "rival", "plain")}},
	"both-legacy":           {deeds: []deed{stock(cosignV2, "team", "legacy"), stock(cosignV2, "rival", "legacy")}},
	"team-twice":            {deeds: []deed{stock(cosignV2, "team", "legacy"), stock(cosignV2, "team", "legacy", "-a", "n=2")}},
	"one-of-two-flipped":    {deeds: []deed{stock(cosignV2, "team", "legacy"), alteredTag(".sig", flipped(legacySignature), nil), stock(cosignV2, "team", "legacy", "-a", "n=2")}},
	"flipped-and-good":      {deeds: []deed{stock(cosignV3, "team", "plain"), altered(flipSignature), stock(cosignV3, "team", "plain")}},
	"legacy-flipped":        {deeds: []deed{stock(cosignV2, "team", "legacy"), alteredTag(".sig", flipped(legacySignature), nil)}},
	"legacy-retold":         {deeds: []deed{stock(cosignV2, "team", "legacy"), alteredTag(".sig", nil, retold)}},
	"legacy-bare":           {deeds: []deed{stock(cosignV2, "team", "legacy"), alteredTag(".sig", func(a map[string]any) { delete(a, legacySignature) }, nil)}},
	"legacy-transplant":     {deeds: []deed{transplanted(stock(cosignV2, "team", "legacy"))}},
	"team-stripped":         {deeds: []deed{stock(cosignV2, "team", "legacy"), stripped}},
	"bundle-flipped":        {deeds: []deed{stock(cosignV3, "team", "plain"), altered(flipSignature)}},
	"bundle-retold":         {deeds: []deed{stock(cosignV3, "team", "plain"), altered(flipPayload)}},
	"bundle-transplant":     {deeds: []deed{transplanted(stock(cosignV3, "team", "plain"))}},
	"logged-transplant":     {deeds: []deed{transplanted(stock(cosignV3, "team", "logged"))}},
	"logged-no-entry":       {deeds: []deed{stock(cosignV3, "team", "logged"), altered(withoutEntries)}},
	"logged-no-timestamp":   {deeds: []deed{stock(cosignV3, "team", "logged"), altered(withoutTimestamps)}},
	"logged-proof-flipped":  {deeds: []deed{stock(cosignV3, "team", "logged"), altered(flipProof)}},
	"logged-root-flipped":   {deeds: []deed{stock(cosignV3, "team", "logged"), altered(flipRoot)}},
	"logged-body-flipped":   {deeds: []deed{stock(cosignV3, "team", "logged"), altered(flipBody)}},
	"logged-checkpoint":     {deeds: []deed{stock(cosignV3, "team", "logged"), altered(flipCheckpoint)}},
	"logged-stamp-flipped":  {deeds: []deed{stock(cosignV3, "team", "logged"), altered(flipTimestamp)}},
	"bundle-two-signed":     {deeds: []deed{stock(cosignV3, "team", "plain"), altered(signTwice)}},
	"bundle-hint":           {deeds: []deed{stock(cosignV3, "team", "plain"), altered(otherHint)}},
	"bundle-version":        {deeds: []deed{stock(cosignV3, "team", "plain"), altered(otherVersion)}},
	"bundle-unknown-field":  {deeds: []deed{stock(cosignV3, "team", "plain"), altered(unknownField)}},
	"logged-entry-twice":    {deeds: []deed{stock(cosignV3, "team", "logged"), altered(entryTwice)}},
	"logged-index":          {deeds: []deed{stock(cosignV3, "team", "logged"), altered(otherIndex)}},
	"payload-plain":         {deeds: []deed{payload(simpleSigning)}},
	"payload-other":         {deeds: []deed{payload(strings.Replace(simpleSigning, "%s", elsewhere, 1))}},
	"payload-twice":         {deeds: []deed{payload(strings.Replace(simpleSigning, `"docker-manifest-digest"`, `"docker-manifest-digest":"`+elsewhere+`","docker-manifest-digest"`, 1))}},
	"payload-twice-last":    {deeds: []deed{payload(strings.Replace(simpleSigning, `"%s"`, `"%s","docker-manifest-digest":"`+elsewhere+`"`, 1))}},
	"payload-case":          {deeds: []deed{payload(strings.Replace(simpleSigning, "docker-m", "Docker-M", 1))}},
	"payload-type":          {deeds: []deed{payload(strings.Replace(simpleSigning, "cosign container", "another", 1))}},
	"payload-trailing":      {deeds: []deed{payload(simpleSigning + "{}")}},
	"payload-more":          {deeds: []deed{payload(strings.Replace(simpleSigning, `"optional"`, `"more":1,"optional"`, 1))}},
	// By identity.
	"job-bundle":       {deeds: []deed{job("release", "bundle")}},
	"job-legacy":       {deeds: []deed{job("release", "legacy")}},
	"job-cosign-v2":    {deeds: []deed{stockJob(cosignV2, "release", "logged")}},
	"job-cosign-v3":    {deeds: []deed{stockJob(cosignV3, "release", "logged")}},
	"job-other":        {deeds: []deed{job("deploy", "bundle", "legacy")}},
	"job-transplant":   {deeds: []deed{transplanted(job("release", "bundle"))}},
	"job-no-entry":     {deeds: []deed{stockJob(cosignV3, "release", "logged"), altered(withoutEntries)}},
	"job-no-timestamp": {deeds: []deed{stockJob(cosignV3, "release", "logged"), altered(withoutTimestamps)}},
	"job-stamped":      {deeds: []deed{stockJob(cosignV3, "release", "stamped")}},
	"job-flipped":      {deeds: []deed{stockJob(cosignV3, "release", "logged"), altered(flipSignature)}},
	// Attestations.
	"release-vuln":            {deeds: []deed{oursAttest("release", "vuln", "bundle")}},
	"release-vuln-legacy":     {deeds: []deed{oursAttest("release", "vuln", "legacy")}},
	"release-custom":          {deeds: []deed{oursAttest("release", "custom", "bundle"), oursAttest("release", "custom", "legacy")}},
	"release-slsa":            {deeds: []deed{oursAttest("release", "slsaprovenance1", "bundle"), oursAttest("release", "slsaprovenance1", "legacy")}},
	"team-custom":             {deeds: []deed{stockAttest(cosignV2, "team", "custom", "custom", "legacy")}},
	"release-vuln-transplant": {deeds: []deed{transplanted(oursAttest("release", "vuln", "bundle"))}},
	"team-vuln-legacy":        {deeds: []deed{stockAttest(cosignV2, "team", "vuln", "vuln", "legacy")}},
	"team-vuln-bundle":        {deeds: []deed{stockAttest(cosignV3, "team", "vuln", "vuln", "plain")}},
	"team-dirty-legacy":       {deeds: []deed{stockAttest(cosignV2, "team", "vuln", "dirty", "legacy")}},
	"team-then-dirty":         {deeds: []deed{stockAttest(cosignV3, "team", "vuln", "vuln", "plain"), stockAttest(cosignV3, "team", "vuln", "dirty", "plain")}},
	"team-vuln-transplant":    {deeds: []deed{transplanted(stockAttest(cosignV2, "team", "vuln", "vuln", "legacy"))}},
	"team-vuln-flipped":       {deeds: []deed{stockAttest(cosignV3, "team", "vuln", "vuln", "plain"), altered(flipPayload)}},
	"rival-vuln-legacy":       {deeds: []deed{stockAttest(cosignV2, "rival", "vuln", "vuln", "legacy")}},
	"job-slsa":                {deeds: []deed{provenance("release", "bundle")}},
	"job-slsa-legacy":         {deeds: []deed{provenance("release", "legacy")}},
	"job-slsa-other":          {deeds: []deed{provenance("deploy", "bundle")}},
	// Notary Project.
	"acme-jws":        {deeds: []deed{notate(false, "jws")}},
	"acme-second":     {deeds: []deed{notate(false, "jws", "--key", "acme.second")}},
	"acme-cose":       {deeds: []deed{notate(false, "cose")}},
	"acme-metadata":   {deeds: []deed{notate(false, "jws", "-m", "env=prod")}},
	"acme-stamped":    {deeds: []deed{stamped("jws")}},
	"acme-stamped-c":  {deeds: []deed{stamped("cose")}},
	"acme-expired":    {deeds: []deed{notate(false, "jws", "--expiry", "1s")}},
	"acme-expired-c":  {deeds: []deed{notate(false, "cose", "--expiry", "1s")}},
	"acme-expires":    {deeds: []deed{notate(false, "cose", "--expiry", "24h")}},
	"rival-jws":       {deeds: []deed{notate(true, "jws")}},
	"rival-cose":      {deeds: []deed{notate(true, "cose")}},
	"acme-and-rival":  {deeds: []deed{notate(true, "jws"), notate(false, "jws")}},
	"acme-transplant": {deeds: []deed{transplanted(notate(false, "jws"))}},
	"acme-stripped":   {deeds: []deed{notate(false, "cose"), stripped}},
}

// simpleSigning is a legacy payload; elsewhere is no image.
const (
	simpleSigning = `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"%s"},"type":"cosign container image signature"},"optional":null}`
	elsewhere     = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// child is the first image of an index.
func child(t *testing.T, s *stage, image string) string {
	repository, d := split(image)
	manifest, _ := s.manifest(t, repository, d.String())
	return s.registry.Image(repository, digest.Digest(manifest["manifests"].([]any)[0].(map[string]any)["digest"].(string)))
}

// tagged asks by a tag that is put at the image, and moved to another one since.
func tagged(moved bool) func(*testing.T, *stage, string) string {
	return func(t *testing.T, s *stage, image string) string {
		repository, d := split(image)
		s.tag(t, repository, "v1", d)
		if moved {
			s.tag(t, repository, "v1", pushShape(t, s.registry, repository, "image"))
		}
		return s.registry.Host + "/" + repository + ":v1"
	}
}

// copied is the image with a change and all the signatures of the original.
func copied(change func(t *testing.T, s *stage, repository string, manifest map[string]any)) func(*testing.T, *stage, string) string {
	return func(t *testing.T, s *stage, image string) string {
		repository, d := split(image)
		manifest, _ := s.manifest(t, repository, d.String())
		change(t, s, repository, manifest)
		changed := s.putManifest(t, repository, "", manifest)
		s.graft(t, repository, d, changed, nil)
		signatures, _ := s.manifest(t, repository, tagOf(d, ".sig"))
		s.putManifest(t, repository, tagOf(changed, ".sig"), signatures)
		return s.registry.Image(repository, changed)
	}
}

func reannotated(_ *testing.T, _ *stage, _ string, manifest map[string]any) {
	manifest["annotations"] = map[string]any{"note": "approved"}
}

func relayered(t *testing.T, s *stage, repository string, manifest map[string]any) {
	s.putBlob(t, repository, manifest["layers"].([]any)[0].(map[string]any), []byte("another layer"))
}

// flipped changes a letter within an annotation.
func flipped(key string) func(map[string]any) {
	return func(annotations map[string]any) { annotations[key] = flipText(annotations[key].(string)) }
}

func flipText(text string) string {
	letters := []byte(text)
	if i := len(letters) / 2; letters[i] == 'A' {
		letters[i] = 'B'
	} else {
		letters[i] = 'A'
	}
	return string(letters)
}

// retold changes what a legacy payload claims and nothing else.
func retold(payload []byte) []byte {
	return bytes.Replace(payload, []byte(`"optional":null`), []byte(`"optional":{"env":"prod"}`), 1)
}

// at walks into a document; numbers are places in lists.
func at(document any, path ...any) map[string]any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			document = document.(map[string]any)[step]
		case int:
			document = document.([]any)[step]
		}
	}
	return document.(map[string]any)
}

func flip(holder map[string]any, key string) { holder[key] = flipText(holder[key].(string)) }

func flipSignature(_ *testing.T, bundle map[string]any) {
	flip(at(bundle, "dsseEnvelope", "signatures", 0), "sig")
}

func flipPayload(t *testing.T, bundle map[string]any) {
	envelope := at(bundle, "dsseEnvelope")
	payload, err := base64.StdEncoding.DecodeString(envelope["payload"].(string))
	check(t, err)
	changed := strings.Replace(string(payload), `"predicate":{`, `"predicate":{"env":"prod",`, 1)
	if changed == string(payload) {
		t.Fatalf("nothing to change in %s", payload)
	}
	envelope["payload"] = base64.StdEncoding.EncodeToString([]byte(changed))
}

func signTwice(_ *testing.T, bundle map[string]any) {
	envelope := at(bundle, "dsseEnvelope")
	signature := envelope["signatures"].([]any)[0]
	envelope["signatures"] = []any{signature, signature}
}

func otherHint(_ *testing.T, bundle map[string]any) {
	at(bundle, "verificationMaterial", "publicKey")["hint"] = "c29tZWJvZHk="
}

func otherVersion(_ *testing.T, bundle map[string]any) {
	bundle["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.9+json"
}

func unknownField(_ *testing.T, bundle map[string]any) { bundle["note"] = "approved" }

func entryTwice(_ *testing.T, bundle map[string]any) {
	material := at(bundle, "verificationMaterial")
	entry := material["tlogEntries"].([]any)[0]
	material["tlogEntries"] = []any{entry, entry}
}

func otherIndex(_ *testing.T, bundle map[string]any) {
	at(bundle, "verificationMaterial", "tlogEntries", 0)["logIndex"] = "9"
}

func withoutEntries(_ *testing.T, bundle map[string]any) {
	delete(at(bundle, "verificationMaterial"), "tlogEntries")
}

func withoutTimestamps(_ *testing.T, bundle map[string]any) {
	delete(at(bundle, "verificationMaterial"), "timestampVerificationData")
}

func flipRoot(_ *testing.T, bundle map[string]any) {
	flip(at(bundle, "verificationMaterial", "tlogEntries", 0, "inclusionProof"), "rootHash")
}

func flipProof(_ *testing.T, bundle map[string]any) {
	hashes := at(bundle, "verificationMaterial", "tlogEntries", 0, "inclusionProof")["hashes"].([]any)
	hashes[0] = flipText(hashes[0].(string))
}

// flipBody lets the entry speak of another digest, in a body that can be read.
func flipBody(t *testing.T, bundle map[string]any) {
	entry := at(bundle, "verificationMaterial", "tlogEntries", 0)
	raw, err := base64.StdEncoding.DecodeString(entry["canonicalizedBody"].(string))
	check(t, err)
	var body map[string]any
	check(t, json.Unmarshal(raw, &body))
	flip(at(body, "spec", "hashedRekordV002", "data"), "digest")
	raw, err = json.Marshal(body)
	check(t, err)
	entry["canonicalizedBody"] = base64.StdEncoding.EncodeToString(raw)
}

func flipCheckpoint(_ *testing.T, bundle map[string]any) {
	checkpoint := at(bundle, "verificationMaterial", "tlogEntries", 0, "inclusionProof", "checkpoint")
	text := checkpoint["envelope"].(string)
	cut := strings.LastIndex(text, " ") + 1
	checkpoint["envelope"] = text[:cut] + flipText(strings.TrimSpace(text[cut:])) + "\n"
}

func flipTimestamp(_ *testing.T, bundle map[string]any) {
	stamp := at(bundle, "verificationMaterial", "timestampVerificationData", "rfc3161Timestamps", 0)
	text := stamp["signedTimestamp"].(string)
	stamp["signedTimestamp"] = text[:len(text)-16] + flipText(text[len(text)-16:])
}
