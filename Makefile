# Countersign: every command a developer or CI runs. `make help` lists them.
#
# Nothing here needs more than Go, a C compiler for the race detector, and the
# tools that `make tools` builds; `make peers` builds the stock binaries that
# the interop suite faces.

GO      ?= go
CACHE   ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/countersign
TOOLS   := $(CACHE)/tools
PEERS   := $(CACHE)/peers
BIN     := bin/countersign
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

GOLANGCI_LINT := $(TOOLS)/golangci-lint-v2.15.0
GOFUMPT       := $(TOOLS)/gofumpt-v0.12.0

# A count, not a time: a run that ends by its clock can be reported as a failure.
FUZZTIME ?= 20000x

# What the collector of each fuzzing process aims below; targets that read sizes
# from their input bound the allocations of each one themselves.
FUZZMEM ?= 512MiB

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/countersign
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN) ./cmd/countersign

.PHONY: build-pkcs11
build-pkcs11: ## the same with PKCS #11, which needs a C compiler
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)-pkcs11 ./cmd/countersign

.PHONY: run
run: ## serve on 127.0.0.1:8181 with ./countersign-data
	$(GO) run ./cmd/countersign serve

.PHONY: test
test: ## every test that needs nothing but Go
	$(GO) test ./...

# SHORT=-short leaves out what would run one thing at a time once more.
.PHONY: race
race: ## the same under the race detector, in random order
	$(GO) test -race -shuffle=on $(SHORT) ./...

.PHONY: check
check: lint race ## lint, layering and race tests: what a change must pass

.PHONY: lint
lint: $(GOLANGCI_LINT) ## format, vet and lint (layering is a test)
	$(GOLANGCI_LINT) run ./...

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## rewrite the sources in the house format
	$(GOLANGCI_LINT) fmt ./...

.PHONY: golden
golden: ## rewrite golden files, openapi.json and docs/problems.md
	$(GO) test ./server -update

# FUZZCOVER= fuzzes without being led by coverage: nothing is built anew for it.
FUZZCOVER ?= -fuzz Fuzz

.PHONY: fuzz
fuzz: ## run every fuzz target FUZZTIME (20000x, or 30s)
	@set -e; work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	for dir in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	  $(GO) test -c $(FUZZCOVER) -o "$$work/fuzz.test" $$dir; \
	  for name in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/^func //'); do \
	    echo "== $$dir $$name"; (cd $$dir && GOMEMLIMIT=$(FUZZMEM) "$$work/fuzz.test" -test.run '^$$' -test.fuzz "^$$name\$$" \
	      -test.fuzztime $(FUZZTIME) -test.fuzzminimizetime 1x -test.fuzzcachedir "$$work/cache"); \
	  done; done

.PHONY: interop
interop: peers ## prove every wire format against the stock binaries
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags interop -count=1 -timeout 30m ./...  -run '^TestInterop'
	@ls $(PEERS)/policy-tester-* >/dev/null 2>&1 || echo "NOT RUN: policy-controller's tester (make peers-large)"

# A real etcd and kube-apiserver on loopback, stock clients, our manifests.
.PHONY: e2e-kubernetes
e2e-kubernetes: peers-kubernetes ## admission by a real API server, Gatekeeper's client and containerd
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags kubernetes -count=1 -timeout 20m ./cluster ./cmd/countersign -run '^Test(Kubernetes|RealAPIServer)'

.PHONY: helm
helm: peers-kubernetes ## lint and render the chart, and hold the plain manifests to it
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags kubernetes -count=1 ./cmd/countersign -run '^TestHelm'

.PHONY: manifests
manifests: peers-kubernetes ## write deploy/manifests anew from the chart
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags kubernetes -count=1 ./cmd/countersign -run '^TestHelmManifests$$' -args -write-manifests

.PHONY: bench-admission
bench-admission: peers-kubernetes ## latency of large pods and reviews per second, beside policy-controller
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags kubernetes -run '^$$' -bench '^BenchmarkAdmission' -benchtime 1x -timeout 30m ./cmd/countersign

.PHONY: interop-identity
interop-identity: peers ## the part of it about CI identities and the TUF mirror
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags interop -count=1 -timeout 30m -v ./cmd/countersign -run '^TestInterop(Identity|TUF)'

# DIFFERENTIAL=large fails without the peers of `make peers-large`.
DIFFERENTIAL ?= $(if $(wildcard $(PEERS)/policy-tester-*),large,)

.PHONY: differential
differential: peers ## the same images and policies through us and the stock verifiers
	COUNTERSIGN_PEERS=$(PEERS) COUNTERSIGN_DIFFERENTIAL=$(DIFFERENTIAL) $(GO) test -tags interop -count=1 -timeout 15m -v ./cmd/countersign -run '^TestInteropDifferential$$'

# FAULTS=all fails every storage step once and a spread of pairs (hours);
# FAULTS=pairs every pair (days). KILLS=1000 is the long run of the kills.
FAULTS ?= sample
SAMPLE  = $(if $(filter all,$(FAULTS)),0,$(if $(filter pairs,$(FAULTS)),-1,20))

.PHONY: faults
faults: ## every storage step failed or killed, KILLS kill -9 under load, disks full
	$(GO) test -tags faults -count=1 -timeout 100h -v ./tlog/sequencer -run '^TestSteps' -args -sample $(SAMPLE)
	$(GO) test -tags faults -count=1 -timeout 5h -v ./cmd/countersign -run '^Test(Exhausted|Kill)' -args -kills $(or $(KILLS),100)

.PHONY: bench-log
bench-log: peers ## the log beside stock rekor-server-posix
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags interop -run '^$$' -bench '^BenchmarkLogPeer' -benchtime 1x -timeout 30m ./cmd/countersign

.PHONY: bench-log-large
bench-log-large: ## audit, open and proofs of a log of LOG_ENTRIES (1000000) entries
	$(GO) test -tags faults -count=1 -timeout 5h -v ./cmd/countersign -run '^TestLargeLog' -args -log-entries $(or $(LOG_ENTRIES),1000000)

.PHONY: monitor-forks
monitor-forks: ## FORKS (100) forks and old snapshots, shown to two witnesses and the monitor
	$(GO) test -count=1 -timeout 60m -v ./tlog/monitor -run '^TestForks$$' -args -forks $(or $(FORKS),100) -seed $(or $(SEED),0)

.PHONY: tamper
tamper: ## change one thing of what is stored at random, TAMPERINGS times
	$(GO) test -count=1 -timeout 60m -v ./examiner -run '^TestTampering$$' -args -tamperings $(or $(TAMPERINGS),1000)

.PHONY: bench
bench: peers ## signatures and verdicts per second, beside stock cosign
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags interop -run '^$$' -bench '^BenchmarkPeer' -benchtime 1x -timeout 30m ./cmd/countersign

.PHONY: bench-identity
bench-identity: peers ## signatures by identity, beside stock cosign
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags interop -run '^$$' -bench '^BenchmarkIdentity' -benchtime 1x -timeout 30m ./cmd/countersign

.PHONY: bench-attest
bench-attest: peers ## attestations, and policies over a 5 MB SBOM, beside stock cosign
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags interop -run '^$$' -bench '^BenchmarkAttest' -benchtime 1x -timeout 30m ./cmd/countersign

.PHONY: bench-verify
bench-verify: peers ## verdicts cold and warm, beside stock cosign, and memory after VERIFY_DIGESTS (100000)
	COUNTERSIGN_PEERS=$(PEERS) $(GO) test -tags interop -run '^$$' -bench '^BenchmarkVerify' -benchtime 1x -timeout 60m ./cmd/countersign -args -verify-digests $(or $(VERIFY_DIGESTS),100000)

.PHONY: soak-verify
soak-verify: ## SOAK (30m) of questions, a third about hostile images, while all trust changes; also of REPLICAS (0)
	$(GO) test -tags soak -count=1 -timeout 10h -v ./server -run '^TestSoakVerify$$' -args -soak $(or $(SOAK),30m) -soak-replicas $(or $(REPLICAS),0)

.PHONY: attacks
attacks: ## known attacks in every form, each with its control, as a table
	@report=$$(mktemp); trap 'rm -f "$$report"' EXIT; { \
	  $(GO) test -json -count=1 -timeout 10m ./verifier ./policy -skip '^TestMutants'; \
	  $(GO) test -json -count=1 -timeout 10m ./server -run '^Test(AdmissionCoversEveryImage|HostileRegistry)$$'; \
	} >"$$report"; $(GO) run ./internal/attacktable -floor $(or $(FLOOR),800) <"$$report"

.PHONY: mutants
mutants: ## MUTANTS (100000) mutants of valid material, none of which may pass
	$(GO) test -count=1 -timeout 60m -v ./verifier -run '^TestMutants$$' -args -mutants $(or $(MUTANTS),100000)

.PHONY: peers
peers: ## build the stock peers named in testdata/peers/list
	testdata/peers/build $(PEERS)

.PHONY: peers-kubernetes
peers-kubernetes: ## build those of testdata/peers/kubernetes too (about ten minutes, once)
	testdata/peers/build $(PEERS) kubernetes

.PHONY: peers-large
peers-large: ## build those of testdata/peers/large too (about ten minutes, once)
	testdata/peers/build $(PEERS) large

.PHONY: tools
tools: $(GOLANGCI_LINT) $(GOFUMPT) ## build the pinned linters

$(TOOLS)/golangci-lint-%:
	testdata/peers/install $(TOOLS) golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint $*

$(TOOLS)/gofumpt-%:
	testdata/peers/install $(TOOLS) gofumpt mvdan.cc/gofumpt $*
