package server_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/server/api"
)

// run runs a shell step as a runner does: its own folder, nothing of our
// environment but the path.
func (h *house) run(dir string, env []string, name string, args ...string) (string, error) {
	h.t.Helper()
	for _, tool := range []string{name, "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				h.t.Fatalf("%s is not installed", tool)
			}
			h.t.Skipf("NOT RUN: a runner has %s, this machine does not", tool)
		}
	}
	cmd := exec.CommandContext(h.t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(env, "PATH="+os.Getenv("PATH"), "HOME="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// TestGitHubActionSigns runs the action's own step with a token that it gets as
// on a runner.
func TestGitHubActionSigns(t *testing.T) {
	h := open(t)
	h.furnish()
	issuer := h.believe("github", "github", func(r *api.IssuerRequest) { r.Audience, r.OneTime = h.url, true })
	h.let(issuer, "repo:acme/app:ref:refs/heads/main", nil)
	h.job(issuer, "repo:acme/app:ref:refs/heads/main")
	var asked atomic.Int32
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer runner" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		asked.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"count": 1, "value": issuer.GitHub(map[string]any{"aud": r.URL.Query().Get("audience")})})
	}))
	t.Cleanup(github.Close)
	dir, image := t.TempDir(), h.push("action")
	outputs := filepath.Join(dir, "outputs")
	step, err := filepath.Abs("../deploy/github-action/sign")
	h.must(err)
	env := func(key string) []string {
		return []string{
			"ACTIONS_ID_TOKEN_REQUEST_URL=" + github.URL + "/token?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runner",
			"GITHUB_OUTPUT=" + outputs, "GITHUB_RUN_ID=1", "GITHUB_RUN_ATTEMPT=1", "GITHUB_JOB=build",
			"SIGN_URL=" + h.url + "/", "SIGN_IMAGE=" + image, "SIGN_KEY=" + key, "SIGN_FORMATS=bundle,legacy",
			"SIGN_ANNOTATIONS=\ngit.sha=c0ffee\nnote=a=\"b\"; $(touch pwned)\n",
		}
	}
	for range 2 { // a repetition has the same answer
		out, err := h.run(dir, env("release"), "bash", step)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	written, err := os.ReadFile(outputs)
	h.must(err)
	if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil || !strings.Contains(string(written), "image="+image) {
		t.Errorf("outputs: %s", written)
	}
	list, err := h.admin.Signatures(t.Context(), api.SignatureFilter{})
	h.must(err)
	if len(list.Items) != 1 || len(list.Items[0].Signatures) != 2 || asked.Load() != 2 {
		t.Errorf("%d signatures, %d tokens: %+v", len(list.Items), asked.Load(), list.Items)
	}
	out, err := h.run(dir, append(env("release"), "SIGN_PROVENANCE=true"), "bash", step)
	provenance, listErr := h.admin.Attestations(t.Context(), api.AttestationFilter{PredicateType: "slsaprovenance1"})
	if err != nil || listErr != nil || len(provenance.Items) != 1 || provenance.Items[0].Image != image ||
		!strings.Contains(out, "provenance-id="+provenance.Items[0].ID) {
		t.Errorf("provenance: %+v, %v, %v: %s", provenance, listErr, err, out)
	}
	out, err = h.run(dir, env("another"), "bash", step)
	if err == nil || !strings.Contains(out, "::error title=Countersign::forbidden") {
		t.Errorf("a key that is not granted: %v %s", err, out)
	}
	out, err = h.run(dir, []string{"SIGN_URL=" + h.url}, "bash", step)
	if err == nil || !strings.Contains(out, "id-token: write") {
		t.Errorf("a job without permission: %v %s", err, out)
	}
}

// TestGitLabTemplateSigns runs the template's own script with the token that
// GitLab would have put there.
func TestGitLabTemplateSigns(t *testing.T) {
	h := open(t)
	h.furnish()
	issuer := h.believe("gitlab", "gitlab", func(r *api.IssuerRequest) { r.Audience = h.url })
	h.let(issuer, "", map[string]string{"project_path": "acme/app"})
	raw, err := os.ReadFile("../deploy/gitlab/template.yml")
	h.must(err)
	var template map[string]struct {
		Script    []string                     `json:"script"`
		Variables map[string]string            `json:"variables"`
		Tokens    map[string]map[string]string `json:"id_tokens"`
	}
	h.must(yaml.Unmarshal(raw, &template))
	job := template[".countersign"]
	if job.Tokens["COUNTERSIGN_TOKEN"]["aud"] != "$COUNTERSIGN_URL" || len(job.Script) != 1 {
		t.Fatalf("template: %+v", job)
	}
	image := h.push("template")
	env := func(more ...string) []string {
		env := []string{
			"COUNTERSIGN_URL=" + h.url, "COUNTERSIGN_TOKEN=" + issuer.GitLab(map[string]any{"aud": h.url}),
			"COUNTERSIGN_IMAGE=" + image, "CI_PIPELINE_ID=574", "CI_JOB_ID=1212",
		}
		for name, value := range job.Variables {
			env = append(env, name+"="+value)
		}
		// The last one counts, as on a runner.
		return append(env, more...)
	}
	for _, shell := range []string{"sh", "bash"} {
		out, err := h.run(t.TempDir(), env("COUNTERSIGN_KEY=release", "COUNTERSIGN_FORMATS=bundle,legacy"), shell, "-c", job.Script[0])
		if err != nil || !strings.Contains(out, image) {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
	list, err := h.admin.Signatures(t.Context(), api.SignatureFilter{})
	h.must(err)
	if len(list.Items) != 1 {
		t.Errorf("%d signatures of one job", len(list.Items))
	}
	dir := t.TempDir()
	if out, err := h.run(dir, env("COUNTERSIGN_KEY=release", "COUNTERSIGN_FORMATS=bundle,legacy", "COUNTERSIGN_PROVENANCE=true"), "sh", "-c", job.Script[0]); err == nil || !strings.Contains(out, "/v1/provenance: status 403") {
		t.Errorf("provenance that is not granted: %v %s", err, out)
	}
	h.job(issuer, "project_path:acme/app:*")
	out, err := h.run(dir, env("COUNTERSIGN_KEY=release", "COUNTERSIGN_FORMATS=bundle,legacy", "COUNTERSIGN_PROVENANCE=true"), "sh", "-c", job.Script[0])
	provenance, listErr := h.admin.Attestations(t.Context(), api.AttestationFilter{PredicateType: "slsaprovenance1"})
	if err != nil || listErr != nil || len(provenance.Items) != 1 || provenance.Items[0].Image != image {
		t.Errorf("provenance: %+v, %v, %v: %s", provenance, listErr, err, out)
	}
	if out, err := h.run(dir, env(`COUNTERSIGN_KEY=a","x":"`), "sh", "-c", job.Script[0]); err == nil || !strings.Contains(out, "not allowed") {
		t.Errorf("a value that breaks out: %v %s", err, out)
	}
	if out, err := h.run(dir, env("COUNTERSIGN_KEY=another"), "sh", "-c", job.Script[0]); err == nil || !strings.Contains(out, "status 4") {
		t.Errorf("a key that is not granted: %v %s", err, out)
	}
}

// TestIntegrationDocuments reads what the documents tell people to write.
func TestIntegrationDocuments(t *testing.T) {
	files, err := filepath.Glob("../docs/integrations/*.md")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v: %v", files, err)
	}
	issuers := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(string(raw), "```yaml\n")[1:]
		if len(blocks) == 0 {
			t.Errorf("%s shows no workflow", file)
		}
		for _, block := range blocks {
			text, _, _ := strings.Cut(block, "```")
			document, err := yaml.YAMLToJSONStrict([]byte(text))
			if err != nil {
				t.Errorf("%s: %v in\n%s", file, err, text)
				continue
			}
			if strings.Contains(text, "claimsMapping:") {
				issuers++
				if _, err := oidc.ParseIssuer("x", document); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
		}
	}
	if issuers == 0 {
		t.Error("no document shows an issuer's definition")
	}
}
