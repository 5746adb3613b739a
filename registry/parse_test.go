package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// FuzzClassify: whatever is accepted is one kind of document, to the standard
// library's reader too.
func FuzzClassify(f *testing.F) {
	const image, index = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
	f.Add([]byte(`{"schemaVersion":2,"config":{},"layers":[]}`), image)
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"`+index+`","manifests":[]}`), index)
	f.Add([]byte(`{"schemaVersion":2,"layers":[],"Manifests":[]}`), image)
	f.Add([]byte(`{"schemaVersion":2,"layers":[],"annotations":{"a":"b","A":"c"}}`), image+"; x=y")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":-1,"platform":{"os":"linux"}}]}`), index)
	f.Fuzz(func(t *testing.T, raw []byte, contentType string) {
		p, err := classify(raw, contentType)
		if err != nil {
			if !errors.Is(err, ErrAmbiguous) {
				t.Errorf("%v", err)
			}
			return
		}
		var both struct {
			Config    json.RawMessage `json:"config"`
			Layers    json.RawMessage `json:"layers"`
			Manifests json.RawMessage `json:"manifests"`
		}
		if err := json.Unmarshal(raw, &both); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		isImage, isIndex := both.Config != nil || both.Layers != nil, both.Manifests != nil
		if isImage == isIndex || isIndex != p.isIndex {
			t.Errorf("%q: index %t, to the standard library image %t and index %t", raw, p.isIndex, isImage, isIndex)
		}
		if (p.image == nil) == (p.index == nil) {
			t.Errorf("%q: decoded as both or neither", raw)
		}
	})
}

func TestParseNextLink(t *testing.T) {
	for line, want := range map[string]string{
		`</v2/a?n=1>; rel="next"`:                  "/v2/a?n=1",
		`</x>;rel=next`:                            "/x",
		`</x>; title="a, b; rel=next"; rel="prev"`: "",
		`</p>; rel=prev, </n>; rel="last next"`:    "/n",
		`</x>; REL="NEXT"`:                         "/x",
		`</x,y>; rel="next"`:                       "/x,y",
		``:                                         "",
		`</x>`:                                     "",
		`</p>; title="\", <evil>"; rel=prev, </n>; rel=next`: "/n",
	} {
		got, ok, err := parseNextLink(line)
		if err != nil || got != want || ok != (want != "") {
			t.Errorf("%s: %q, %t, %v", line, got, ok, err)
		}
	}
	for _, line := range []string{`x`, `<x`, `<x>; title="`, `<p>; rel=prev, x`, `<` + strings.Repeat("x", 5000) + `>`} {
		if got, ok, err := parseNextLink(line); err == nil || ok || got != "" {
			t.Errorf("%.40s: %q, %t, %v", line, got, ok, err)
		}
	}
}

func FuzzParseNextLink(f *testing.F) {
	for _, s := range []string{`</v2/a?n=1>; rel="next"`, `<a>; rel=prev, <b>; rel="x next"`, `<a>; t="\",<`, `,`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		target, ok, err := parseNextLink(line)
		switch {
		case (err != nil || !ok) && target != "":
			t.Errorf("%q: target %q without a link", line, target)
		case ok && !strings.Contains(line, "<"+target+">"):
			t.Errorf("%q: target %q is not in it", line, target)
		}
	})
}

func TestParseChallenge(t *testing.T) {
	c, ok := parseChallenge(`Bearer realm="https://a.example.com/t?x=1,2",service=svc, scope="a \"b\""`)
	if !ok || c.scheme != "bearer" || c.parameters["realm"] != "https://a.example.com/t?x=1,2" ||
		c.parameters["service"] != "svc" || c.parameters["scope"] != `a "b"` {
		t.Errorf("%+v, %t", c, ok)
	}
	if c, ok := parseChallenge("Negotiate"); !ok || c.scheme != "negotiate" {
		t.Errorf("%+v, %t", c, ok)
	}
	for _, line := range []string{``, `Bearer realm`, `Bearer realm="x`, `Bearer realm="a",realm="b"`, `Bearer ="x"`, `Bearer ` + strings.Repeat("x", 5000)} {
		if c, ok := parseChallenge(line); ok {
			t.Errorf("%.40s: %+v", line, c)
		}
	}
}

func FuzzParseChallenge(f *testing.F) {
	for _, s := range []string{`Bearer realm="https://a/t",service="s"`, `Basic realm=x`, `Bearer realm="\"`, `a b=c, d="e`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, ok := parseChallenge(line)
		if ok && (c.scheme == "" || c.scheme != strings.ToLower(c.scheme)) {
			t.Errorf("%q: scheme %q", line, c.scheme)
		}
		for name := range c.parameters {
			if ok && !strings.Contains(strings.ToLower(line), name) {
				t.Errorf("%q: parameter %q is not in it", line, name)
			}
		}
	})
}

// FuzzEachListed: cutting a listing anywhere never adds an entry, and a cut one
// does not look whole.
func FuzzEachListed(f *testing.F) {
	entry := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1}`
	f.Add([]byte(`{"schemaVersion":2,"manifests":[`+entry+`,`+entry+`],"x":[]}`), 60)
	f.Add([]byte(`{"manifests":[null,1,{"digest":"x"}]}`), 5)
	f.Fuzz(func(t *testing.T, body []byte, cut int) {
		count := func(b []byte) (int, bool) {
			n := 0
			whole := eachListed(b, func(listed) bool { n++; return true })
			return n, whole
		}
		all, whole := count(body)
		if cut < 0 || cut >= len(bytes.TrimSpace(body)) {
			return
		}
		part, partWhole := count(bytes.TrimSpace(body)[:cut])
		if part > all || (whole && partWhole) {
			t.Errorf("%q cut at %d: %d entries of %d, whole %t", body, cut, part, all, partWhole)
		}
	})
}
