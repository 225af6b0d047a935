# Tools and servers are pinned in tools/, built once into bin/ and .build/, and built again when their pins change.

PYTHON   ?= python3
ONLY     ?= .*
PAIRS    ?= 200
SEED     ?= 1
WAITERS  ?= 2000
CROWD    ?= 10000
FUZZTIME ?= 1m
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)

# A stamp carries the checksum of what it was made from, so that a cache that is older than the checkout still counts.
checksum = $(shell cat $(1) | cksum | cut -d ' ' -f 1)
TOOLS    := bin/.tools-$(call checksum,tools/go.mod tools/go.sum)
LINTER   := bin/.golangci-lint-$(call checksum,tools/golangci-lint/go.mod tools/golangci-lint/go.sum)
TEMPORAL := bin/.temporal-$(call checksum,tools/temporal/go.mod tools/temporal/go.sum)
PROMQL   := bin/.promql-$(call checksum,tools/promql/go.mod tools/promql/go.sum tools/promql/main.go)
SERVER   := bin/.server-$(call checksum,tools/temporal-server/go.mod tools/temporal-server/go.sum)
PROMETHEUS := bin/.prometheus-$(call checksum,tools/prometheus/go.mod tools/prometheus/go.sum)
# Of Prometheus's ways to find what it scrapes, the one that deploy/prometheus uses: the others bring along the clouds' SDKs.
DISCOVERY := remove_all_sd,enable_dns_sd
S3       := bin/.s3-$(call checksum,tools/versitygw/go.mod tools/versitygw/go.sum)
KUSTOMIZE := bin/.kustomize-$(call checksum,tools/kustomize/go.mod tools/kustomize/go.sum)
KUBERNETES := .build/.kubernetes-$(call checksum,tools/kubernetes.txt tools/uv.txt)
UV       := .build/.uv-$(call checksum,tools/uv.txt)
VENV     := .build/.venv-$(call checksum,tools/requirements.txt tools/uv.txt)
DVC      := .build/.dvc-$(call checksum,tools/dvc.txt tools/uv.txt)
SCANNERS := .build/.scanners-$(call checksum,tools/scanners.txt tools/uv.txt)
MATRIX   := $(patsubst tools/%.txt,.build/%/.stamp,$(wildcard tools/matrix/*.txt))
FIXTURES := $(patsubst tools/%.txt,.build/%/.stamp,$(wildcard tools/fixtures/*.txt))
TRAINING := examples/credit-risk/train.py $(wildcard examples/credit-risk/config/*)
PROJECT  := .build/.credit-risk-$(call checksum,$(TRAINING) tools/requirements.txt)

# environment makes the folder $(1) with the packages that $(2) pins. Its target is a stamp that comes last: a folder is there also where that fails.
define environment
	rm -rf $(1) && .build/uv/bin/uv venv --quiet --python $(PYTHON) $(1) && \
	VIRTUAL_ENV=$(1) .build/uv/bin/uv pip sync --quiet --require-hashes $(2)
endef

# Python files are compiled as they are installed: where PYTHONDONTWRITEBYTECODE is set, each start of a server would compile them again.
export UV_COMPILE_BYTECODE := 1

GO_FILES  = find . -path './.*' -prune -o -name '*.go' -print
GOTESTSUM = bin/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg --

# Folders of some of these names exist: what has a line in `make help`, and the two binaries.
.PHONY: worker starter $(shell awk -F : '/^[a-z]+:.*## / { print $$1 }' $(firstword $(MAKEFILE_LIST)))
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help: ## show what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile

build: worker starter ## build bin/worker and bin/starter

worker starter:
	@echo "build bin/$@ ($(VERSION))"
	@go build -ldflags '-X main.version=$(VERSION)' -o bin/$@ ./$@

demo: build $(TEMPORAL) $(VENV) ## register a model on real servers, and serve both Web UIs until Ctrl-C (DEMO_EXIT=1: end by itself)
	@DEMO_EXIT=$(DEMO_EXIT) go run ./examples/demo

test: lint build tools venv dvc project ## everything that must pass: lint, and all tests with the race detector on real servers
	@echo "test everything, on real servers"
	@$(GOTESTSUM) -race -count=1 -p 2 -timeout 80m ./...

unit: $(TOOLS) ## the tests that need no server: unit, workflow and replay
	@echo "test without servers"
	@REGISTRAR_TEST_SERVERS=off $(GOTESTSUM) -race -p 2 -timeout 30m ./...

integration: build tools venv dvc project ## the tests of the packages that need servers
	@echo "test on real servers"
	@$(GOTESTSUM) -race -count=1 -p 2 -timeout 80m $$(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | \
		awk '/internal\/servertest/ { print $$1 }')

rules: $(TOOLS) ## the exactly-once protocol: thousands of schedules that nobody has seen, and each of its rules left out in turn (5 minutes)
	@echo "test the protocol under 3000 schedules"
	@$(GOTESTSUM) -count=1 -timeout 30m -run TestProtocol ./test/protocol -rapid.checks=3000
	@echo "leave each rule of the protocol out"
	@$(GOTESTSUM) -count=1 -timeout 30m -run TestRules ./test/protocol -rules

fuzz: ## let each fuzz target look for trouble, one after the other (FUZZTIME=10m ONLY=FuzzInspect); what it finds is kept as a seed
	@$(GO_FILES) | xargs awk -F '[ (]' '/^func Fuzz/ { print $$2, FILENAME }' | sort | while read -r target file; do \
		echo "$$target" | grep -qx '$(ONLY)' || continue; \
		echo "fuzz: $$target, $(FUZZTIME)" && \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s "$$(dirname "$$file")" || exit 1; \
	done

lint: $(TOOLS) $(LINTER) ## golangci-lint, go vet, gofumpt, workflowcheck, go mod tidy, actionlint
	@echo "lint: gofumpt"
	@unformatted=$$($(GO_FILES) | xargs bin/gofumpt -l) && test -z "$$unformatted" || \
		{ echo "not formatted, run \`make fmt\`:" $$unformatted >&2; exit 1; }
	@echo "lint: go vet"
	@go vet ./...
	@echo "lint: golangci-lint"
	@bin/golangci-lint config verify
	@bin/golangci-lint run ./...
	@echo "lint: workflowcheck"
	@bin/workflowcheck -test=false -config .workflowcheck.yml ./workflows/...
	@echo "lint: go mod tidy"
	@go mod tidy -diff
	@echo "lint: actionlint"
	@bin/actionlint -shellcheck= -pyflakes= examples/github-actions/*.yml

vulnerabilities: $(TOOLS) ## look the dependencies up in Go's vulnerability database, where it can be reached
	@echo "look for known vulnerabilities"
	@bin/govulncheck ./...

fmt: $(TOOLS) ## format the Go files
	@$(GO_FILES) | xargs bin/gofumpt -w

docs: ## write what is made from the code anew: docs/commands.md, the tables of docs/configuration.md, config/*.yaml
	@echo "write the reference"
	@go test ./config ./starter ./worker -run TestReference -count=1 -docs

histories: build tools venv project ## record the workflow histories that the replay tests replay (ONLY=passed: one of them)
	@echo "record histories from real runs"
	@go test ./test/e2e -run 'TestRecordHistories/^($(ONLY))$$' -count=1 -timeout 30m -parallel 6 -record

screenshots: build $(TEMPORAL) $(VENV) ## take the README's pictures of both Web UIs anew, by Chromium
	@cd tools/screenshots && go build -o ../../bin/screenshots .
	@rm -rf .demo && mkdir -p docs/images
	@DEMO_THEN='bin/screenshots docs/images/temporal.png=$${DEMO_REGISTRATION_URL%history}user-metadata docs/images/temporal-history.png=$$DEMO_REGISTRATION_URL \
		docs/images/mlflow.png=$$DEMO_VERSION_URL docs/images/mlflow-run.png=$$DEMO_RUN_URL' go run ./examples/demo

chaos: build tools venv ## each fault at each request of a registration, and random pairs of them (PAIRS=200 SEED=1); tens of minutes
	@echo "let faults befall registrations"
	@mkdir -p .build && go test -c -o .build/chaos.test ./test/chaos
	@cd test/chaos && ../../.build/chaos.test -test.timeout 3h -full -side-by-side 24 -pairs $(PAIRS) -seed $(SEED)

waiting: build tools venv ## what it costs to wait for one MLflow server, and servers killed in each state (WAITERS=2000); up to an hour
	@echo "let $(WAITERS) registrations wait for one MLflow server"
	@mkdir -p .build && go test -c -o .build/waiting.test ./test/waiting
	@cd test/waiting && ../../.build/waiting.test -test.timeout 3h -test.parallel 1 -full -registrations $(WAITERS)

crowd: build tools ## whether what waiting costs grows with those that wait (CROWD=10000), then all are let loose; an hour or two
	@echo "let $(CROWD) registrations wait for one MLflow server"
	@mkdir -p .build && go test -c -o .build/waiting.test ./test/waiting
	@cd test/waiting && ../../.build/waiting.test -test.timeout 6h -test.run TestCrowd_WaitsAsCheaply -full -registrations $(CROWD) -wakes-per-second 50

postgres: build tools venv $(SERVER) ## Temporal on PostgreSQL as docker-compose.yml has it, and either killed in each state; takes PostgreSQL's programs
	@echo "kill Temporal and its PostgreSQL"
	@$(GOTESTSUM) -count=1 -p 1 -timeout 1h -run OnPostgreSQL ./internal/servertest ./test/waiting -postgres

upgrades: build tools venv project ## an old worker's registrations, in each state, go on with this one (FROM=<commit>: the old one is built from there)
	@echo "replace the worker under registrations in each state"
	@$(if $(FROM),rm -rf .build/from && mkdir -p .build/from && git archive $(FROM) | tar -x -C .build/from && \
		cd .build/from && go build -ldflags '-X main.version=before' -o ../worker-from ./worker)
	@$(GOTESTSUM) -count=1 -timeout 30m -run TestUpgrade ./test/e2e -every-state $(if $(FROM),-old-worker $(CURDIR)/.build/worker-from)

alerts: $(PROMETHEUS) ## check Prometheus' file, and check and test the alert rules, by promtool
	@bin/promtool check config deploy/prometheus/prometheus.yml
	@bin/promtool test rules deploy/prometheus/alerts_test.yml

bench: build tools venv ## measure against the Python stage, a bare script, curl, sha256sum and cp, and write docs/benchmarks.md (BENCH=quick: a little, and only print)
	@echo "measure registrations; nothing else should run on this machine"
	@go run ./test/bench $(if $(filter quick,$(BENCH)),-quick)

stack: build tools venv project $(SERVER) $(PROMETHEUS) ## docker-compose.yml without Docker: a registration, and an outage of each server; takes PostgreSQL's programs
	@echo "run the services of docker-compose.yml"
	@$(GOTESTSUM) -count=1 -timeout 1h ./test/stack -stack

scanners: venv $(SCANNERS) ## hostile model files against the public scanners of pickles; writes docs/security-gate.md
	@echo "compare with picklescan, modelscan and fickling"
	@go test -count=1 -timeout 30m -run TestScanners ./internal/modelfile -scanners $(CURDIR)/.build/scanners/bin/python

zoo: $(TOOLS) $(TEMPORAL) $(VENV) ## every estimator of scikit-learn, saved in every way: inspected, packed, registered, loaded back; writes docs/zoo.md (minutes)
	@echo "inspect, pack, register and load every estimator of scikit-learn"
	@$(GOTESTSUM) -count=1 -timeout 1h ./test/zoo -full

matrix: build tools venv project $(MATRIX) ## register on MLflow 2.22, 3.1, 3.9 and the newest; writes docs/servers.md (minutes)
	@echo "register on each version of MLflow"
	@$(GOTESTSUM) -count=1 -timeout 1h -run TestMatrix ./test/e2e -matrix

fixtures: $(FIXTURES) ## write test/zoo/testdata/versions anew, with scikit-learn from 1.4 on
	@for environment in $(notdir $(basename $(wildcard tools/fixtures/*.txt))); do \
		echo "write model files with $$environment" && \
		.build/fixtures/$$environment/bin/python test/zoo/testdata/fixture.py test/zoo/testdata/versions/$$environment || exit 1; \
	done

tools: $(TOOLS) $(LINTER) $(TEMPORAL) $(S3) $(PROMQL) $(KUSTOMIZE) $(KUBERNETES) ## build the tools, the Temporal development server and an S3 server into bin/ (cold: minutes)

venv: $(VENV) ## make the Python environment .build/venv with MLflow and scikit-learn

dvc: $(DVC) ## make the Python environment .build/dvc with DVC, for the tests of its pipeline

project: $(PROJECT) ## train the example project into .build/credit-risk, for the tests

requirements: ## pin anew what tools/*.in, tools/matrix and tools/fixtures ask for
	@$(MAKE) --no-print-directory $(UV)
	@for pins in $(basename $(wildcard tools/*.in tools/*/*.in)); do \
		echo "# Made from $$(basename $$pins).in by \`make requirements\`. Do not edit." > $$pins.txt && \
		.build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
			--no-header --no-annotate --no-emit-index-url --no-emit-find-links $$pins.in >> $$pins.txt || exit 1; \
	done

clean: ## remove what make made, and the demo's state
	rm -rf bin .build .demo

$(TOOLS):
	@echo "build the tools of tools/go.mod into bin/"
	@mkdir -p bin && rm -f bin/.tools-*
	@cd tools && GOBIN=$(CURDIR)/bin go install tool
	@touch $@

$(LINTER):
	@echo "build golangci-lint into bin/ (a cold build takes up to 5 minutes)"
	@mkdir -p bin && rm -f bin/.golangci-lint-*
	@cd tools/golangci-lint && GOBIN=$(CURDIR)/bin go install tool
	@touch $@

$(TEMPORAL):
	@echo "build the Temporal development server into bin/ (a cold build takes up to 7 minutes)"
	@mkdir -p bin && rm -f bin/.temporal-*
	@cd tools/temporal && GOBIN=$(CURDIR)/bin go install tool
	@touch $@

$(PROMETHEUS):
	@echo "build Prometheus into bin/ (a cold build takes up to 5 minutes)"
	@mkdir -p bin && rm -f bin/.prometheus-*
	@cd tools/prometheus && go build -tags $(DISCOVERY) -o ../../bin/prometheus github.com/prometheus/prometheus/cmd/prometheus
	@cd tools/prometheus && go build -tags $(DISCOVERY) -o ../../bin/promtool github.com/prometheus/prometheus/cmd/promtool
	@touch $@

$(PROMQL):
	@echo "build the reader of PromQL into bin/"
	@mkdir -p bin && rm -f bin/.promql-*
	@cd tools/promql && go build -o ../../bin/promql .
	@touch $@

$(SERVER):
	@echo "build the Temporal server and its SQL tool into bin/ (a cold build takes up to 5 minutes)"
	@mkdir -p bin && rm -f bin/.server-*
	@cd tools/temporal-server && go build -o ../../bin/temporal-server go.temporal.io/server/cmd/server
	@cd tools/temporal-server && go build -o ../../bin/temporal-sql-tool go.temporal.io/server/cmd/tools/sql
	@touch $@

$(S3):
	@echo "build the S3 server into bin/ (a cold build takes up to 5 minutes)"
	@mkdir -p bin && rm -f bin/.s3-*
	@cd tools/versitygw && GOBIN=$(CURDIR)/bin go install tool
	@touch $@

$(KUSTOMIZE):
	@echo "build kustomize into bin/"
	@mkdir -p bin && rm -f bin/.kustomize-*
	@cd tools/kustomize && GOBIN=$(CURDIR)/bin go install tool
	@touch $@

$(KUBERNETES): $(UV)
	@echo "install the schemas of Kubernetes, and what checks against them, into .build/kubernetes"
	@rm -f .build/.kubernetes-*
	@$(call environment,.build/kubernetes,tools/kubernetes.txt)
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is too old, Python 3.11 or newer is needed: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "install uv into .build/uv"
	@rm -rf .build/uv .build/.uv-*
	@$(PYTHON) -m venv .build/uv
	@.build/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tools/uv.txt
	@touch $@

$(SCANNERS): $(UV)
	@echo "install the public scanners into .build/scanners"
	@rm -f .build/.scanners-*
	@$(call environment,.build/scanners,tools/scanners.txt)
	@touch $@

$(VENV): $(UV)
	@echo "install MLflow and scikit-learn into .build/venv"
	@rm -f .build/.venv-*
	@$(call environment,.build/venv,tools/requirements.txt)
	@touch $@

$(DVC): $(UV)
	@echo "install DVC into .build/dvc"
	@rm -f .build/.dvc-*
	@$(call environment,.build/dvc,tools/dvc.txt)
	@touch $@

# An environment of its own for each version of MLflow, or of what writes model files.
.build/matrix/%/.stamp: tools/matrix/%.txt $(UV)
	@echo "install $< into $(@D)"
	@$(call environment,$(@D),$<)
	@touch $@

.build/fixtures/%/.stamp: tools/fixtures/%.txt $(UV)
	@echo "install $< into $(@D)"
	@$(call environment,$(@D),$<)
	@touch $@

$(PROJECT): $(VENV)
	@echo "train the example project"
	@rm -rf .build/credit-risk .build/.credit-risk-*
	@.build/venv/bin/python examples/credit-risk/train.py --root .build/credit-risk
	@touch $@
