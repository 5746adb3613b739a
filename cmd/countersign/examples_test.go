package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/countersign/countersign/internal/localregistry"
)

// deployFolder is what is handed out for deployment, examples its examples.
const (
	deployFolder = "../../deploy"
	examples     = deployFolder + "/examples"
)

// object is a YAML or JSON document.
type object = map[string]any

// documents are the objects of a YAML file, each name once.
func documents(t testing.TB, raw []byte) []object {
	t.Helper()
	var objects []object
	for decoder := yaml.NewDecoder(bytes.NewReader(raw)); ; {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return objects
		}
		check(t, err)
		one, err := yaml.Marshal(&node)
		check(t, err)
		document := object{}
		check(t, sigsyaml.UnmarshalStrict(one, &document))
		if len(document) > 0 {
			objects = append(objects, document)
		}
	}
}

func readDocuments(t testing.TB, path string) []object {
	t.Helper()
	raw, err := os.ReadFile(path)
	check(t, err)
	return documents(t, raw)
}

// field follows names and, in a list, takes the first element.
func field(t testing.TB, v any, path ...string) any {
	t.Helper()
	for _, name := range path {
		if list, ok := v.([]any); ok {
			v = list[0]
		}
		fields, ok := v.(map[string]any)
		if !ok || fields[name] == nil {
			t.Fatalf("%v: there is no %s", path, name)
		}
		v = fields[name]
	}
	return v
}

func stringsOf(t testing.TB, v any) []string {
	t.Helper()
	var out []string
	for _, item := range v.([]any) {
		out = append(out, fmt.Sprint(item))
	}
	return out
}

// TestDeployFilesAreStrictYAML: every file that is handed out parses, and names
// nothing twice. Templates are rendered by another test.
func TestDeployFilesAreStrictYAML(t *testing.T) {
	seen := 0
	check(t, filepath.WalkDir(deployFolder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "templates":
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		if ext := filepath.Ext(path); ext == ".yaml" || ext == ".yml" || strings.HasSuffix(path, ".json") {
			seen++
			if len(readDocuments(t, path)) == 0 {
				t.Errorf("%s is empty", path)
			}
		}
		return nil
	}))
	if seen < 15 {
		t.Errorf("only %d files were read", seen)
	}
}

// TestPipelineExamples: what the examples for pipelines run does what they say,
// against a real service: a signed image goes through, another one stops them.
func TestPipelineExamples(t *testing.T) {
	p := newProcess(t)
	p.start()
	registry := startRegistry(t)
	p.trustAll(registry, "release")
	push := func(name string) string {
		d, err := registry.PushImage(t.Context(), "team/app", name, name)
		check(t, err)
		return registry.Image("team/app", d)
	}
	built, never := push("built"), push("never")

	shells := jenkinsShells(t)
	if len(shells) != 2 {
		t.Fatalf("the Jenkinsfile has %d shell steps", len(shells))
	}
	for _, run := range []struct {
		name, script, image string
		code                int
	}{
		{"verify before signing", shells[1], built, 3},
		{"sign", shells[0], built, 0},
		{"sign again", shells[0], built, 0},
		{"verify", shells[1], built, 0},
		{"verify another", shells[1], never, 3},
	} {
		if code, out := p.script(t, run.script, "IMAGE="+run.image, "BUILD_TAG=jenkins-shop-1", "RETRY_PAUSE=0"); code != run.code {
			t.Errorf("jenkins, %s: exit code %d, want %d\n%s", run.name, code, run.code, out)
		}
	}
	p.kill()
	if code, _ := p.script(t, shells[1], "IMAGE="+built, "RETRY_PAUSE=0"); code != 6 {
		t.Errorf("jenkins, with the service down: exit code %d, want 6", code)
	}
	p.start()

	for _, path := range []string{"argo-cd/presync.yaml", "flux/gate.yaml"} {
		job := readDocuments(t, filepath.Join(examples, path))[0]
		args := stringsOf(t, field(t, job, "spec", "template", "spec", "containers", "args"))
		for image, code := range map[string]int{built: 0, never: 3} {
			if out, got := p.run(substituted(args, "registry.example.com/team/app:1.4", image)...); got != code {
				t.Errorf("%s, %s: exit code %d, want %d\n%s", path, image, got, code, out)
			}
		}
	}
	task := readDocuments(t, filepath.Join(examples, "tekton/task.yaml"))[0]
	fresh := push("tekton")
	for _, step := range field(t, task, "spec", "steps").([]any) {
		args := stringsOf(t, field(t, step, "args"))
		for from, to := range map[string]string{"$(params.image)": fresh, "$(params.key)": "release", "$(context.taskRun.uid)": "run-1"} {
			args = substituted(args, from, to)
		}
		if out, code := p.run(args...); code != 0 {
			t.Errorf("tekton %v: exit code %d\n%s", args, code, out)
		}
	}
}

func substituted(args []string, from, to string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = strings.ReplaceAll(arg, from, to)
	}
	return out
}

// jenkinsShells are the shell steps of the Jenkinsfile.
func jenkinsShells(t testing.TB) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(examples, "jenkins", "Jenkinsfile"))
	check(t, err)
	var shells []string
	for i, part := range strings.Split(string(raw), "'''") {
		if i%2 == 1 {
			shells = append(shells, part)
		}
	}
	return shells
}

// script runs a shell script that finds countersign in its path.
func (p *process) script(t testing.TB, script string, env ...string) (int, string) {
	t.Helper()
	bin := t.TempDir()
	wrapper := fmt.Sprintf("#!/bin/sh\nCOUNTERSIGN_TEST_PROCESS=1 exec %q \"$@\"\n", os.Args[0])
	check(t, os.WriteFile(filepath.Join(bin, "countersign"), []byte(wrapper), 0o755))
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "COUNTERSIGN_URL="+p.url, "COUNTERSIGN_TOKEN="+p.token())
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func startRegistry(t testing.TB) *localregistry.Registry {
	t.Helper()
	registry, err := localregistry.Start(context.Background(), localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	return registry
}
