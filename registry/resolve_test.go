package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/registry"
)

func TestResolve(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, h *traced) {
		c := client(rules(plainRule(host)))
		image := pushImage(t, c, host, "team/app", "v1")
		h.forget()
		byTag, err := c.Resolve(t.Context(), parse(t, host+"/team/app:v1"))
		if err != nil {
			t.Fatal(err)
		}
		if byTag.Digest != image.Digest || byTag.IsIndex || byTag.Reference.String() != host+"/team/app:v1@"+image.Digest.String() {
			t.Errorf("%+v", byTag)
		}
		if diff := cmp.Diff([]string{"GET /v2/team/app/manifests/v1"}, h.seen()); diff != "" {
			t.Errorf("requests: %s", diff)
		}
		byDigest, err := c.Resolve(t.Context(), parse(t, host+"/team/app@"+image.Digest.String()))
		if err != nil || byDigest.Digest != image.Digest {
			t.Errorf("%v, %v", byDigest.Digest, err)
		}
		_, err = c.Resolve(t.Context(), parse(t, host+"/team/app:v2"))
		if !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("missing tag: %v", err)
		}
		_, err = c.Resolve(t.Context(), parse(t, host+"/team/none:v1"))
		if !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("missing repository: %v", err)
		}
	})
}

func TestResolveIndexAndChild(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string, _ *traced) {
		c := client(rules(plainRule(host)))
		amd, arm := pushImage(t, c, host, "team/app", "amd64"), pushImage(t, c, host, "team/app", "arm64")
		entry := func(m registry.Manifest, arch, variant string) map[string]any {
			d := descriptor(ociManifest, m.Raw)
			d["platform"] = map[string]string{"os": "linux", "architecture": arch, "variant": variant}
			return d
		}
		index := mustJSON(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{
			entry(amd, "amd64", ""), entry(arm, "arm64", "v8"),
		}})
		pushManifest(t, host, "team/app", "all", ociIndex, index)
		m, err := c.Resolve(t.Context(), parse(t, host+"/team/app:all"))
		if err != nil {
			t.Fatal(err)
		}
		want := []registry.Child{
			{Digest: amd.Digest, MediaType: ociManifest, Size: int64(len(amd.Raw)), Platform: "linux/amd64"},
			{Digest: arm.Digest, MediaType: ociManifest, Size: int64(len(arm.Raw)), Platform: "linux/arm64/v8"},
		}
		if diff := cmp.Diff(want, m.Children, cmp.Comparer(sameDigest)); diff != "" || !m.IsIndex {
			t.Errorf("index %t, children: %s", m.IsIndex, diff)
		}
		child, err := c.Child(t.Context(), m.Reference, m.Children[1])
		if err != nil || child.Digest != arm.Digest {
			t.Errorf("%v, %v", child.Digest, err)
		}
		// A8: a child that is not as the index describes it is not the child.
		lied := m.Children[1]
		lied.MediaType = ociIndex
		if _, err := c.Child(t.Context(), m.Reference, lied); !errors.Is(err, registry.ErrAmbiguous) {
			t.Errorf("media type lie: %v", err)
		}
		lied = m.Children[1]
		lied.Size++
		if _, err := c.Child(t.Context(), m.Reference, lied); !errors.Is(err, registry.ErrAmbiguous) {
			t.Errorf("size lie: %v", err)
		}
	})
}

// A1: bytes of another digest are refused, by digest and where the registry's
// own header contradicts what it serves for a tag.
func TestA1DigestMismatch(t *testing.T) {
	good, bad := manifestJSON("good"), manifestJSON("bad")
	store := content{}
	digest := store.put(ociManifest, good, "v1", "lying")
	s, _ := script(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/lying") {
			w.Header().Set("Docker-Content-Digest", attest.DigestOf(bad).String())
		}
		store.ServeHTTP(w, r)
	})
	c := client(rules(plainRule(hostOf(s))))
	pinned := parse(t, hostOf(s)+"/a@"+digest.String())
	if _, err := c.Resolve(t.Context(), pinned); err != nil { // control
		t.Fatal(err)
	}
	if _, err := c.Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1")); err != nil { // control
		t.Fatal(err)
	}
	if _, err := c.Resolve(t.Context(), parse(t, hostOf(s)+"/a:lying")); !errors.Is(err, registry.ErrDigestMismatch) {
		t.Errorf("header of another digest: %v", err)
	}
	store[digest.String()] = stored{ociManifest, bad}
	if _, err := c.Resolve(t.Context(), pinned); !errors.Is(err, registry.ErrDigestMismatch) {
		t.Errorf("bytes of another digest: %v", err)
	}
}

// A3: one digest, two readings.
func TestA3AmbiguousDocument(t *testing.T) {
	config := string(mustJSON(descriptor("application/vnd.oci.image.config.v1+json", []byte("{}"))))
	image := `{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":` + config + `,"layers":[]}`
	index := `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`
	bare := `{"schemaVersion":2,"config":` + config + `,"layers":[]}`
	for name, tt := range map[string]struct {
		contentType, body string
		want              error
	}{
		"image":                      {ociManifest, image, nil},
		"image with a parameter":     {ociManifest + "; charset=utf-8", image, nil},
		"index":                      {ociIndex, index, nil},
		"image without a mediaType":  {ociManifest, bare, nil},
		"docker image":               {"application/vnd.docker.distribution.manifest.v2+json", bare, nil},
		"both":                       {ociManifest, `{"schemaVersion":2,"config":` + config + `,"layers":[],"manifests":[]}`, registry.ErrAmbiguous},
		"both, as index":             {ociIndex, `{"schemaVersion":2,"layers":[],"manifests":[]}`, registry.ErrAmbiguous},
		"neither":                    {ociManifest, `{"schemaVersion":2}`, registry.ErrAmbiguous},
		"image flipped to index":     {ociIndex, image, registry.ErrAmbiguous},
		"index flipped to image":     {ociManifest, index, registry.ErrAmbiguous},
		"bare image flipped":         {ociIndex, bare, registry.ErrAmbiguous},
		"mediaType of the index":     {ociManifest, strings.Replace(image, ociManifest, ociIndex, 1), registry.ErrAmbiguous},
		"no Content-Type":            {"", image, registry.ErrAmbiguous},
		"web page":                   {"text/html", image, registry.ErrAmbiguous},
		"duplicate name":             {ociManifest, strings.Replace(image, `"layers":[]`, `"layers":[],"layers":[]`, 1), registry.ErrAmbiguous},
		"name in another case":       {ociManifest, strings.Replace(image, `"layers":[]`, `"layers":[],"Manifests":[]`, 1), registry.ErrAmbiguous},
		"name with a long s":         {ociManifest, strings.Replace(image, `"layers":[]`, `"layers":[],"manifeſts":[]`, 1), registry.ErrAmbiguous},
		"nested name in two cases":   {ociManifest, strings.Replace(image, `"size"`, `"Digest":"x","size"`, 1), registry.ErrAmbiguous},
		"case in annotations":        {ociManifest, strings.Replace(image, `"layers":[]`, `"layers":[],"annotations":{"a":"","A":"","Size":""}`, 1), nil},
		"trailing data":              {ociManifest, image + "{}", registry.ErrAmbiguous},
		"schema 1 members":           {ociManifest, strings.Replace(image, `"layers":[]`, `"layers":[],"fsLayers":[]`, 1), registry.ErrAmbiguous},
		"schema 1":                   {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[]}`, registry.ErrAmbiguous},
		"schema version 3":           {ociManifest, strings.Replace(image, `"schemaVersion":2`, `"schemaVersion":3`, 1), registry.ErrAmbiguous},
		"not an object":              {ociManifest, `[]`, registry.ErrAmbiguous},
		"empty":                      {ociManifest, ``, registry.ErrAmbiguous},
		"entry without digest":       {ociIndex, `{"schemaVersion":2,"manifests":[{"size":1}]}`, registry.ErrAmbiguous},
		"entry with a sha512 digest": {ociIndex, `{"schemaVersion":2,"manifests":[{"digest":"sha512:` + strings.Repeat("a", 128) + `"}]}`, registry.ErrAmbiguous},
		"nested too deep":            {ociManifest, strings.Replace(image, `[]`, strings.Repeat("[", 100)+strings.Repeat("]", 100), 1), registry.ErrAmbiguous},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := script(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{tt.contentType}
				_, _ = w.Write([]byte(tt.body))
			})
			_, err := client(rules(plainRule(hostOf(s)))).Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1"))
			if !errors.Is(err, tt.want) || (tt.want == nil && err != nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// G3: a tag that changes its meaning is resolved once; what follows works on
// the digest.
func TestG3TagIsResolvedOnce(t *testing.T) {
	store := content{}
	good, bad := manifestJSON("good"), manifestJSON("bad")
	digest := store.put(ociManifest, good)
	store.put(ociManifest, bad)
	asked := 0
	s, h := script(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			store.ServeHTTP(w, r)
			return
		}
		body := good
		if asked++; asked > 1 {
			body = bad
		}
		w.Header().Set("Content-Type", ociManifest)
		_, _ = w.Write(body)
	})
	c := client(rules(plainRule(hostOf(s))))
	m, err := c.Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1"))
	if err != nil || m.Digest != digest {
		t.Fatalf("%v, %v", m.Digest, err)
	}
	again, err := c.Resolve(t.Context(), m.Reference) // the tag is still in it, for display
	if err != nil || again.Digest != digest {
		t.Errorf("%v, %v", again.Digest, err)
	}
	if _, err := c.Attachments(t.Context(), m.Reference); err != nil {
		t.Error(err)
	}
	if h.count("GET", "/manifests/v1") != 1 || h.count("HEAD", "") != 0 {
		t.Errorf("requests: %q", h.seen())
	}
}

// What is not listed is not contacted.
func TestNotListed(t *testing.T) {
	s, h := script(t, content{}.ServeHTTP)
	rule := plainRule(hostOf(s))
	rule.Repositories = []string{"team/**", "exact"}
	c := client(rules(rule))
	for repository, want := range map[string]error{
		"team/app": registry.ErrNotFound, "team/a/b": registry.ErrNotFound, "exact": registry.ErrNotFound,
		"team": registry.ErrNotListed, "teams/app": registry.ErrNotListed, "exact/x": registry.ErrNotListed, "other": registry.ErrNotListed,
	} {
		h.forget()
		_, err := c.Resolve(t.Context(), parse(t, hostOf(s)+"/"+repository+":v1"))
		if !errors.Is(err, want) || (errors.Is(want, registry.ErrNotListed) && len(h.seen()) > 0) {
			t.Errorf("%s: %v, requests %q", repository, err, h.seen())
		}
	}
	none := client(rules())
	h.forget()
	ref := parse(t, hostOf(s)+"/a@"+attest.DigestOf(nil).String())
	_, resolveErr := none.Resolve(t.Context(), ref)
	_, attachmentsErr := none.Attachments(t.Context(), ref)
	_, attachErr := none.AttachLegacy(t.Context(), ref, []byte("p"), map[string]string{signatureKey: "YQ=="})
	_, checkErr := none.Check(t.Context(), hostOf(s), "a")
	for _, err := range []error{resolveErr, attachmentsErr, attachErr, checkErr} {
		if !errors.Is(err, registry.ErrNotListed) {
			t.Error(err)
		}
	}
	if len(h.seen()) != 0 {
		t.Errorf("contacted: %q", h.seen())
	}
}

// A rule that is taken away or changed takes effect on the next operation.
func TestRuleChangeTakesEffect(t *testing.T) {
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1")
	s, h := script(t, store.ServeHTTP)
	list := rules(plainRule(hostOf(s)))
	c := client(list)
	ref := parse(t, hostOf(s)+"/a:v1")
	if _, err := c.Resolve(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	with := plainRule(hostOf(s))
	with.Credentials = &registry.Credentials{Token: canary}
	list.put(hostOf(s), with)
	if _, err := c.Resolve(t.Context(), ref); err != nil || !h.carried(canary) {
		t.Errorf("new credentials not used: %v", err)
	}
	private := plainRule(hostOf(s))
	private.AllowPrivateAddress = false
	list.put(hostOf(s), private)
	if _, err := c.Resolve(t.Context(), ref); !errors.Is(err, registry.ErrUnsafe) {
		t.Errorf("consent to a private address taken away: %v", err)
	}
	list.drop(hostOf(s))
	if _, err := c.Resolve(t.Context(), ref); !errors.Is(err, registry.ErrNotListed) {
		t.Errorf("dropped: %v", err)
	}
}

func TestObserveCountsRoundTrips(t *testing.T) {
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1")
	s, _ := script(t, store.ServeHTTP)
	var seen []string
	c := registry.New(registry.Config{
		Rules: rules(plainRule(hostOf(s))), Clock: clock.System{},
		Observe: func(r registry.RoundTrip) {
			seen = append(seen, fmt.Sprint(r.Host == hostOf(s), r.Method, r.Path, r.Status))
		},
	})
	if _, err := c.Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1")); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Resolve(t.Context(), parse(t, hostOf(s)+"/a:v2"))
	want := []string{fmt.Sprint(true, "GET", "/v2/a/manifests/v1", 200), fmt.Sprint(true, "GET", "/v2/a/manifests/v2", 404)}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}
