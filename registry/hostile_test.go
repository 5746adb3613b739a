package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/registry"
)

// growth is how much more was allocated in all while f ran: a bound on what
// the heap grew by.
func growth(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A registry that does not finish is left after the time-out; one that does
// not end is left at the size limit.
func TestEndlessRegistry(t *testing.T) {
	gone := make(chan struct{})
	defer close(gone)
	drip := func(w http.ResponseWriter, r *http.Request, every time.Duration) {
		w.Header().Set("Content-Type", ociManifest)
		for {
			if _, err := w.Write([]byte("{")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(every):
			}
		}
	}
	for name, tt := range map[string]struct {
		serve http.HandlerFunc
		want  error
	}{
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-gone:
			}
		}, registry.ErrUnavailable},
		"one byte a second": {func(w http.ResponseWriter, r *http.Request) { drip(w, r, time.Second) }, registry.ErrUnavailable},
		"endless body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ociManifest)
			for chunk := bytes.Repeat([]byte(" "), 64<<10); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, registry.ErrLimit},
		"length above the limit": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(int64(10)<<30))
			_, _ = w.Write([]byte("{}"))
		}, registry.ErrLimit},
		"length longer than the body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ociManifest)
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(manifestJSON("x")[:100])
		}, registry.ErrUnavailable},
		"endless headers": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 100))
			}
		}, registry.ErrUnavailable},
		"connection dropped": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, registry.ErrUnavailable},
		"server fault":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, registry.ErrUnavailable},
		"control": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ociManifest)
			_, _ = w.Write(manifestJSON("x"))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := script(t, tt.serve)
			patience := 300 * time.Millisecond
			if !errors.Is(tt.want, registry.ErrUnavailable) {
				patience = 30 * time.Second // what is not about time must not depend on it
			}
			c := quick(rules(plainRule(hostOf(s))), patience)
			var err error
			used := growth(func() { _, err = c.Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1")) })
			if !errors.Is(err, tt.want) || (tt.want == nil && err != nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if used > 64<<20 {
				t.Errorf("%d bytes allocated", used)
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("our own time-out looks like the caller's: %v", err)
			}
		})
	}
}

// The caller's deadline is told apart from the registry's slowness.
func TestCallersDeadline(t *testing.T) {
	s, _ := script(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client(rules(plainRule(hostOf(s)))).Resolve(ctx, parse(t, hostOf(s)+"/a:v1"))
	if !errors.Is(err, registry.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A busy registry is asked again, a bounded number of times.
func TestBusyRegistryIsAskedAgain(t *testing.T) {
	for failures, want := range map[int]error{
		1: nil, limits.RegistryAttempts - 1: nil, limits.RegistryAttempts: registry.ErrUnavailable,
	} {
		n := 0
		s, h := script(t, func(w http.ResponseWriter, _ *http.Request) {
			if n++; n <= failures {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", ociManifest)
			_, _ = w.Write(manifestJSON("x"))
		})
		_, err := client(rules(plainRule(hostOf(s)))).Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1"))
		if !errors.Is(err, want) || (want == nil && err != nil) || len(h.seen()) > limits.RegistryAttempts {
			t.Errorf("%d failures: %v, requests %d", failures, err, len(h.seen()))
		}
	}
}

// H8: a registry that hangs with all its slots taken holds up nobody else.
func TestH8HostileRegistryHoldsUpNobodyElse(t *testing.T) {
	hanging, h := script(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	store := content{}
	store.put(ociManifest, manifestJSON("x"), "v1")
	good, _ := script(t, store.ServeHTTP)
	c := client(rules(plainRule(hostOf(hanging)), plainRule(hostOf(good))))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 2 * limits.RegistryRequests {
		group.Go(func() { _, _ = c.Resolve(ctx, parse(t, hostOf(hanging)+"/a:v1")) })
	}
	for len(h.seen()) < limits.RegistryRequests {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Resolve(t.Context(), parse(t, hostOf(good)+"/a:v1")); err != nil {
		t.Error(err)
	}
	if n := len(h.seen()); n != limits.RegistryRequests {
		t.Errorf("%d parallel requests to one registry", n)
	}
	cancel()
	group.Wait()
}

// bundlesAbout is a scripted registry whose subject has the given listing.
func bundlesAbout(t *testing.T, store content, listing []byte) (*traced, *registry.Client, registry.Reference) {
	t.Helper()
	subject := manifestJSON("subject")
	store.put(ociManifest, subject)
	s, h := script(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			w.Header().Set("Content-Type", ociIndex)
			_, _ = w.Write(listing)
			return
		}
		store.ServeHTTP(w, r)
	})
	return h, client(rules(plainRule(hostOf(s)))), parse(t, hostOf(s)+"/a@"+attest.DigestOf(subject).String())
}

// H3: of 100,000 referrers with the good one last a bounded number is looked
// at, and the answer says that it is not all.
func TestH3ManyReferrers(t *testing.T) {
	store := content{}
	bundle := []byte(`{"good":true}`)
	good := referrerJSON(manifestJSON("subject"), bundle)
	store.put(ociManifest, good)
	store.put("", bundle)
	var listing bytes.Buffer
	listing.WriteString(`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[`)
	for i := range 100_000 {
		junk := manifestJSON(fmt.Sprint("junk", i))
		if i < 1000 {
			store.put(ociManifest, junk)
		}
		d := descriptor(ociManifest, junk)
		d["artifactType"] = bundleType
		listing.Write(mustJSON(d))
		listing.WriteByte(',')
	}
	last := descriptor(ociManifest, good)
	last["artifactType"] = bundleType
	listing.Write(mustJSON(last))
	listing.WriteString(`]}`)

	h, c, ref := bundlesAbout(t, store, listing.Bytes())
	var found registry.Found
	var err error
	used := growth(func() { found, err = c.Attachments(t.Context(), ref) })
	if err != nil || len(found.Attachments) != 0 || !found.Truncated {
		t.Errorf("%d attachments, truncated %t, %v", len(found.Attachments), found.Truncated, err)
	}
	if n := h.count("GET", "/manifests/"); n > limits.Bundles+2 { // beside the two tags of cosign
		t.Errorf("%d manifests fetched", n)
	}
	if used > 64<<20 {
		t.Errorf("%d bytes allocated", used)
	}

	h, c, ref = bundlesAbout(t, store, listingJSON(manifestJSON("junk1"), good)) // control
	found, err = c.Attachments(t.Context(), ref)
	if err != nil || len(found.Attachments) != 1 || found.Truncated {
		t.Errorf("control: %+v, %v, %q", found, err, h.seen())
	}
}

// H3, paged: pages are bounded too, also when they lead to themselves.
func TestH3EndlessPages(t *testing.T) {
	bundle := []byte(`{"good":true}`)
	subject := manifestJSON("subject")
	good := referrerJSON(subject, bundle)
	for name, tt := range map[string]struct {
		pages     int
		attached  int
		truncated bool
	}{
		"two pages": {2, 1, false}, "as many as allowed": {limits.ReferrersPages, 1, false},
		"one more": {limits.ReferrersPages + 1, 0, true}, "endless": {1 << 30, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			store := content{}
			store.put(ociManifest, good)
			store.put("", bundle)
			page := 0
			s, h := script(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.URL.Path, "/referrers/") {
					store.ServeHTTP(w, r)
					return
				}
				page++
				w.Header().Set("Content-Type", ociIndex)
				if page < tt.pages {
					w.Header().Set("Link", `<`+r.URL.Path+`?n=`+fmt.Sprint(page)+`>; rel="next"`)
					_, _ = w.Write(listingJSON())
					return
				}
				_, _ = w.Write(listingJSON(good))
			})
			c := client(rules(plainRule(hostOf(s))))
			found, err := c.Attachments(t.Context(), parse(t, hostOf(s)+"/a@"+attest.DigestOf(subject).String()))
			if err != nil || len(found.Attachments) != tt.attached || found.Truncated != tt.truncated {
				t.Errorf("%+v, %v", found, err)
			}
			if n := h.count("GET", "/referrers/"); n > limits.ReferrersPages {
				t.Errorf("%d pages", n)
			}
		})
	}
}

// H1: layers that lie about their size cost neither memory nor the others.
func TestH1LyingLayers(t *testing.T) {
	subject := manifestJSON("subject")
	bundle := []byte(`{"good":true}`)
	good := referrerJSON(subject, bundle)
	large := bytes.Repeat([]byte("x"), 2*limits.Bundle)
	withLayer := func(digest attest.Digest, size int64) []byte {
		var m map[string]any
		mustUnmarshal(t, good, &m)
		m["layers"] = []any{map[string]any{"mediaType": bundleType, "digest": digest.String(), "size": size}}
		return mustJSON(m)
	}
	for name, tt := range map[string]struct {
		size      int64
		want      error
		truncated bool
	}{
		"10 GiB":                     {10 << 30, registry.ErrLimit, true},
		"largest integer":            {1<<63 - 1, registry.ErrLimit, true},
		"negative":                   {-1, registry.ErrAmbiguous, false},
		"small, and more is sent":    {100, registry.ErrLimit, true},
		"zero, and more is sent":     {0, registry.ErrLimit, true},
		"limit, and more is sent":    {limits.Bundle, registry.ErrLimit, true},
		"above the limit by one":     {limits.Bundle + 1, registry.ErrLimit, true},
		"right digest of large body": {2 * limits.Bundle, registry.ErrLimit, true},
	} {
		t.Run(name, func(t *testing.T) {
			store := content{}
			store.put("", bundle)
			store.put(ociManifest, good)
			liar := withLayer(store.put("", large), tt.size)
			store.put(ociManifest, liar)
			_, c, ref := bundlesAbout(t, store, listingJSON(liar, good))
			var found registry.Found
			var err error
			used := growth(func() { found, err = c.Attachments(t.Context(), ref) })
			if err != nil || len(found.Attachments) != 1 || string(found.Attachments[0].Bundle) != string(bundle) {
				t.Fatalf("%d attachments, problems %v, %v", len(found.Attachments), found.Problems, err)
			}
			if len(found.Problems) != 1 || !errors.Is(found.Problems[0].Err, tt.want) || found.Truncated != tt.truncated {
				t.Errorf("%d attachments, problems %v, truncated %t", len(found.Attachments), found.Problems, found.Truncated)
			}
			if used > 64<<20 {
				t.Errorf("%d bytes allocated", used)
			}
		})
	}
}

// H1: a great many legacy signatures are read up to the limit.
func TestH1ManyLegacySignatures(t *testing.T) {
	subject := manifestJSON("subject")
	for n, truncated := range map[int]bool{1: false, limits.Bundles: false, limits.Bundles + 1: true, 20_000: true} {
		store := content{}
		payload := []byte("payload")
		store.put("", payload)
		layers := make([]any, n)
		for i := range layers {
			d := descriptor("application/vnd.dev.cosign.simplesigning.v1+json", payload)
			d["annotations"] = map[string]string{signatureKey: fmt.Sprint(i)}
			layers[i] = d
		}
		signatures := mustJSON(map[string]any{
			"schemaVersion": 2, "mediaType": ociManifest, "layers": layers,
			"config": descriptor("application/vnd.oci.image.config.v1+json", []byte("{}")),
		})
		if len(signatures) > limits.Manifest && n < 20_000 {
			t.Fatalf("%d bytes", len(signatures))
		}
		store.put(ociManifest, signatures, "sha256-"+attest.DigestOf(subject).Hex()+".sig")
		h, c, ref := bundlesAbout(t, store, listingJSON())
		found, err := c.Attachments(t.Context(), ref)
		if err != nil || found.Truncated != truncated || len(found.Attachments) > limits.Bundles {
			t.Errorf("%d: %d attachments, truncated %t, %v", n, len(found.Attachments), found.Truncated, err)
		}
		if !truncated && len(found.Attachments) != n {
			t.Errorf("%d: %d attachments", n, len(found.Attachments))
		}
		if blobs := h.count("GET", "/blobs/"); blobs > 1 {
			t.Errorf("%d: one payload fetched %d times", n, blobs)
		}
	}
}

// The sum of what one subject may cost is bounded, not only each piece.
func TestAttachmentBytesAreBounded(t *testing.T) {
	subject := manifestJSON("subject")
	store := content{}
	listed := make([][]byte, 0, 20)
	for i := range 20 {
		bundle := bytes.Repeat([]byte{byte('a' + i)}, limits.AttachmentBytes/10)
		store.put("", bundle)
		referrer := referrerJSON(subject, bundle)
		store.put(ociManifest, referrer)
		listed = append(listed, referrer)
	}
	_, c, ref := bundlesAbout(t, store, listingJSON(listed...))
	found, err := c.Attachments(t.Context(), ref)
	if err != nil || !found.Truncated || len(found.Attachments) == 0 || len(found.Attachments) > 10 {
		t.Errorf("%d attachments, truncated %t, %v", len(found.Attachments), found.Truncated, err)
	}
}

// Referrers that are not what they are listed as are passed over, and said.
func TestReferrersThatAreSomethingElse(t *testing.T) {
	subject, bundle := manifestJSON("subject"), []byte(`{}`)
	good := referrerJSON(subject, bundle)
	aboutOther := referrerJSON(manifestJSON("other"), bundle)
	var twoLayers map[string]any
	mustUnmarshal(t, good, &twoLayers)
	twoLayers["layers"] = []any{descriptor(bundleType, bundle), descriptor(bundleType, bundle)}
	both := bytes.Replace(good, []byte(`"layers"`), []byte(`"manifests":[],"layers"`), 1)
	for name, tt := range map[string]struct {
		referrer []byte
		served   []byte
		want     error
	}{
		"about another subject": {aboutOther, aboutOther, registry.ErrAmbiguous},
		"two layers":            {mustJSON(twoLayers), mustJSON(twoLayers), registry.ErrAmbiguous},
		"manifest and index":    {both, both, registry.ErrAmbiguous},
		"other bytes":           {good, aboutOther, registry.ErrDigestMismatch},
		"gone":                  {good, nil, registry.ErrNotFound},
		"an image":              {subject, subject, nil},
		"control":               {good, good, nil},
	} {
		t.Run(name, func(t *testing.T) {
			store := content{}
			store.put("", bundle)
			if tt.served != nil {
				store[attest.DigestOf(tt.referrer).String()] = stored{ociManifest, tt.served}
			}
			_, c, ref := bundlesAbout(t, store, listingJSON(tt.referrer))
			found, err := c.Attachments(t.Context(), ref)
			if err != nil || len(found.Attachments) != boolInt(name == "control") {
				t.Fatalf("%+v, %v", found, err)
			}
			if tt.want == nil && len(found.Problems) == 0 {
				return
			}
			if len(found.Problems) != 1 || !errors.Is(found.Problems[0].Err, tt.want) {
				t.Errorf("%+v", found.Problems)
			}
		})
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A registry that cannot be asked is not "no signatures".
func TestAttachmentsUnavailable(t *testing.T) {
	subject, bundle := manifestJSON("subject"), []byte(`{}`)
	good := referrerJSON(subject, bundle)
	for _, broken := range []string{"/referrers/", ".sig", "/manifests/" + attest.DigestOf(good).String(), "/blobs/"} {
		store := content{}
		store.put("", bundle)
		store.put(ociManifest, good)
		s, _ := script(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.Contains(r.URL.Path, broken):
				w.WriteHeader(http.StatusBadGateway)
			case strings.Contains(r.URL.Path, "/referrers/"):
				w.Header().Set("Content-Type", ociIndex)
				_, _ = w.Write(listingJSON(good))
			default:
				store.ServeHTTP(w, r)
			}
		})
		c := client(rules(plainRule(hostOf(s))))
		_, err := c.Attachments(t.Context(), parse(t, hostOf(s)+"/a@"+attest.DigestOf(subject).String()))
		if !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("%s: %v", broken, err)
		}
	}
}

// K1: neither errors nor logs show credentials, or what a registry said.
func TestK1SecretsDoNotPrint(t *testing.T) {
	var logs bytes.Buffer
	s, _ := script(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "you sent %s", r.Header)
	})
	rule := plainRule(hostOf(s))
	rule.Credentials = &registry.Credentials{Token: canary}
	rule.Mirrors = []string{"unlisted.example.com"}
	c := registry.New(registry.Config{
		Rules: rules(rule), Clock: clock.System{},
		Logger: slog.New(slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	_, err := c.Resolve(t.Context(), parse(t, hostOf(s)+"/a:v1"))
	if !errors.Is(err, registry.ErrDenied) {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&logs, nil)).Info("rule", "credentials", rule.Credentials.Token)
	fmt.Fprintf(&logs, "%v %+v %#v %s", rule.Credentials.Token, *rule.Credentials, *rule.Credentials, rule.Credentials.Token)
	if text := err.Error() + logs.String(); strings.Contains(text, canary) || strings.Contains(text, "you sent") {
		t.Error(text)
	}
}
