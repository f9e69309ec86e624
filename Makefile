# make help lists the targets. Everything that is built lands in bin/ (and
# .cache/ for tools), both git-ignored; nothing is installed on the machine.

SHELL    := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
SERVICES := watcher analyzer actuator notifier
BINARIES := $(SERVICES) selfheal
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT   := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X github.com/selfheal/selfheal/pkg/daemon.version=$(VERSION) -X github.com/selfheal/selfheal/pkg/daemon.commit=$(COMMIT)
# Without gRPC's own tracing, which nobody uses: it brings html/template, and with that the linker can leave nothing out. A fifth
# of the watcher, which holds half of its memory. Dockerfile does the same.
GOBUILD  := CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)'
say       = printf '\033[1m==>\033[0m %s\n'

# The control plane of the tests and the demo. -X sets the version that the API
# server reports; without it Kubernetes calls itself v0.0.0 and kubectl warns.
KUBE_VERSION := 1.36.3
KUBE_PKGS    := k8s.io/component-base/version k8s.io/client-go/pkg/version
KUBE_LDFLAGS := -s -w $(foreach p,$(KUBE_PKGS),-X $(p).gitVersion=v$(KUBE_VERSION) -X $(p).gitMajor=1 -X $(p).gitMinor=36)

# The parts of make bench. watch takes further settings by environment: BENCH_PODS=1000,10000 for some sizes,
# BENCH_FIGURES=cold,warm,event,rest,storm,limits,allocs for some figures, BENCH_STEADY=10m for more of limits, BENCH_IDLE=1h to count requests at rest for longer than ten
# minutes, BENCH_CONTINUE=1 to go on from where a run broke off; docs/benchmarks.md is written only with all of them.
BENCH ?= heal recover bus watch

GOLANGCI := .cache/bin/golangci-lint-v2.15.0

# Helm 3 and 4, and what writes the chart's README. -X sets the version of Kubernetes that helm template and lint assume.
HELM         := .cache/bin/helm-v3.22.0
HELM4        := .cache/bin/helm-v4.3.1
HELM_DOCS    := .cache/bin/helm-docs-v1.14.2
HELM_LDFLAGS := -s -w -X helm.sh/helm/v3/internal/version.version=v3.22.0 \
  $(foreach p,chartutil lint/rules,-X helm.sh/helm/v3/pkg/$(p).k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$(p).k8sVersionMinor=36)
CHART        := deploy/helm/self-healing

# The nats command line, with which docs/audit.md is tried.
NATS := .cache/bin/nats-v0.4.0

# Debian's Prometheus, with promtool, unpacked and not installed: the dashboards' and alerts' expressions are tried with it. The
# archive holds one build of it for a Debian release, so the release pins the version.
PROMETHEUS := .cache/bin/prometheus

# Debian's shellcheck, likewise, for the shell of the targets up and down.
SHELLCHECK := .cache/bin/shellcheck

.DEFAULT_GOAL := help
.PHONY: help build $(BINARIES) cluster demo demo-down up down image test e2e chart-test generate bench lint vet standalone nats observe-test fmt clean

help: ## list the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

build: $(BINARIES) ## build watcher, analyzer, actuator, notifier and selfheal into bin/

$(SERVICES):
	@$(say) "building bin/$@"
	@$(GOBUILD) -o bin/$@ ./services/$@/cmd/$@

selfheal: ## build the command line alone, also as the plugin of kubectl
	@$(say) "building bin/$@ and bin/kubectl-$@"
	@$(GOBUILD) -o bin/$@ ./cli/cmd/selfheal
	@cp -f bin/$@ bin/kubectl-$@

cluster: bin/devcluster ## build the local Kubernetes control plane (about 5 minutes, once)

bin/devcluster: $(shell find dev/cluster -name '*.go' -not -name '*_test.go') dev/cluster/internal/cluster/audit-policy.yaml dev/cluster/go.mod dev/cluster/go.sum
	@$(say) "building bin/devcluster: etcd, kube-apiserver, controller-manager and scheduler $(KUBE_VERSION) from source; about 5 minutes on 2 cores, once"
	@(while sleep 20; do printf '    … still compiling Kubernetes, %s s\n' $$SECONDS; done) & ticker=$$!; trap "kill $$ticker" EXIT; \
	  cd dev/cluster && GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags '$(KUBE_LDFLAGS)' -o ../../bin/devcluster .
	@touch $@

demo: build bin/devcluster ## break a small cluster in several ways and watch it heal (KEEP=1 leaves it running)
	@bin/selfheal demo $(if $(KEEP),--keep)

demo-down: ## stop what `make demo KEEP=1` left running
	@bin/selfheal demo --stop

up: ## a kind cluster with the four services, Prometheus, Grafana, a mail catcher and a webhook viewer beside it (Docker, kind)
	@for tool in docker kind; do command -v "$$tool" >/dev/null || { echo "make up: $$tool is not on the PATH; docs/compose.md says what it needs" >&2; exit 2; }; done
	@docker compose version >/dev/null || { echo "make up: docker has no compose; docs/compose.md says what it needs" >&2; exit 2; }
	@$(say) "the kind cluster selfheal"
	@if kind get clusters | grep -x selfheal; then echo "it is there already"; else kind create cluster --config deploy/compose/kind.yaml --wait 2m; fi
	@mkdir -p .cache
	@kind get kubeconfig --name selfheal --internal > .cache/kind.kubeconfig
	@chmod 0644 .cache/kind.kubeconfig # the services' user is none of this machine's
	@$(say) "the services, and what shows them"
	@docker compose up --build --detach --wait
	@cat deploy/compose/where.txt

down: ## end what make up has started, and delete all of it
	@docker compose down --volumes --remove-orphans
	@kind delete cluster --name selfheal
	@rm -f .cache/kind.kubeconfig

IMAGES ?= $(BINARIES)

image: ## the images without Docker, as archives for docker load in bin/image (IMAGES=watcher for one)
	@go run ./test/image/assemble --version '$(VERSION)' --commit '$(COMMIT)' --to bin/image $(IMAGES)

test: build bin/devcluster $(HELM) $(HELM4) $(HELM_DOCS) $(NATS) $(PROMETHEUS) $(SHELLCHECK) ## run every test, with -race, on a real NATS server and a real control plane
	@$(say) "go test -race work"
	@go test -race -timeout 20m work
	@$(say) "go test in dev/cluster"
	@cd dev/cluster && GOWORK=off CGO_ENABLED=0 go test -trimpath ./...

e2e: build bin/devcluster ## break a real control plane and judge the healing by its audit log (about 40 minutes; FAILURES=200 VICTIMS=50 SEED=1 for a longer run, UPDATE=1 writes docs/scenarios.md)
	@go test -count=1 -v -timeout 60m ./test/e2e -long $(if $(UPDATE),-update)

generate: $(HELM_DOCS) ## write what derives from something else: the chart's rights and its README, the dashboards
	@$(say) "generate"
	@go run ./test/chart/generate $(CHART)
	@go run ./test/observe/generate deploy
	@$(HELM_DOCS) --chart-search-root $(CHART) --log-level warning

chart-test: selfheal bin/devcluster $(HELM) $(HELM4) $(HELM_DOCS) ## the chart alone: lint, rendering, bad values, a real control plane, rights
	@go test -count=1 ./test/chart/...

bench: build bin/devcluster ## measure against references in the same run; the figures of docs/benchmarks.md (BENCH=watch for a part)
	@for part in $(BENCH); do $(say) "bench $$part"; case $$part in \
	  heal) go test -run '^$$' -bench TimeToHeal -benchtime 50x -timeout 30m ./test/bench ;; \
	  recover) go test -run '^$$' -bench Recover -benchtime 1x -timeout 30m ./test/bench ;; \
	  bus) go test -run '^$$' -bench . -benchtime 2s ./pkg/bus ./services/analyzer/... ;; \
	  watch) go test -run '^$$' -bench Watcher -benchtime 1x -timeout 90m ./test/bench/watch ;; \
	  *) echo "BENCH: unknown part $$part, want some of heal recover bus watch" >&2; exit 2 ;; esac; done

lint: vet standalone $(GOLANGCI) ## go vet, golangci-lint, gofmt, and each service built alone
	@$(say) "gofmt"
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not formatted: $$bad" >&2; exit 1; }
	@$(say) "golangci-lint"
	@$(GOLANGCI) run $$(go list -m -f '{{.Dir}}/...')

vet:
	@$(say) "go vet work"
	@go vet work
	@cd dev/cluster && GOWORK=off CGO_ENABLED=0 go vet -trimpath ./...

standalone:
	@for s in pkg $(addprefix services/,$(SERVICES)) cli test; do \
	  $(say) "GOWORK=off go build in $$s"; (cd $$s && GOWORK=off CGO_ENABLED=0 go build ./...); done

$(GOLANGCI):
	@$(say) "building golangci-lint (once)"
	@GOBIN=$(CURDIR)/.cache/bin GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	@mv .cache/bin/golangci-lint $@

$(HELM):
	@$(say) "building helm (once)"
	@GOBIN=$(CURDIR)/.cache/bin GOFLAGS= GOWORK=off CGO_ENABLED=0 go install -trimpath -ldflags '$(HELM_LDFLAGS)' helm.sh/helm/v3/cmd/helm@v3.22.0
	@mv .cache/bin/helm $@

$(HELM4):
	@$(say) "building helm 4 (once)"
	@GOBIN=$(CURDIR)/.cache/bin GOFLAGS= GOWORK=off CGO_ENABLED=0 go install -trimpath -ldflags '-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1' helm.sh/helm/v4/cmd/helm@v4.3.1
	@mv .cache/bin/helm $@

$(HELM_DOCS):
	@$(say) "building helm-docs (once)"
	@GOBIN=$(CURDIR)/.cache/bin GOFLAGS= GOWORK=off CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2
	@mv .cache/bin/helm-docs $@

nats: $(NATS) ## build the nats command line into .cache/bin

$(NATS):
	@$(say) "building nats (once)"
	@GOBIN=$(CURDIR)/.cache/bin GOFLAGS= GOWORK=off CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' github.com/nats-io/natscli/nats@v0.4.0
	@mv .cache/bin/nats $@

observe-test: build bin/devcluster $(PROMETHEUS) ## the dashboards and alerts alone, by a real Prometheus on the real services
	@go test -count=1 -v -run 'Dashboard|Alert|Metric|Rules|Runbook' ./test/observe

# $(call fetch,package,programs) unpacks programs of a Debian package into .cache/bin.
define fetch
	@$(say) "fetching $(1) (once)"
	@mkdir -p .cache/bin .cache/apt-$(1)/lists/partial .cache/apt-$(1)/archives/partial
	@cd .cache/apt-$(1) && { apt-get -qq download $(1) 2>/dev/null || { \
	  own=(-qq -o Dir::State::lists="$$PWD/lists" -o Dir::Cache="$$PWD"); apt-get "$${own[@]}" update && apt-get "$${own[@]}" download $(1); }; }
	@dpkg-deb --fsys-tarfile .cache/apt-$(1)/$(1)_*.deb | tar -x --strip-components=3 -C .cache/bin $(addprefix ./usr/bin/,$(2))
	@rm -r .cache/apt-$(1)
	@touch $@
endef

$(PROMETHEUS):
	$(call fetch,prometheus,prometheus promtool)

$(SHELLCHECK):
	$(call fetch,shellcheck,shellcheck)

fmt: ## format the code
	@gofmt -w $$(git ls-files '*.go')

clean: ## remove what was built
	@rm -rf bin .cache .dev
