# make help lists what there is. Programs and packages that a target needs are
# installed or built by it; what is built is kept in $TIERWALL_CACHE
# (default ~/.cache/tierwall) and built once.

GO            ?= go
LAB           := $(GO) run ./test/cluster/lab
CONTROLLER_GEN := sigs.k8s.io/controller-tools/cmd/controller-gen@v0.20.1
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2
TEST          := $(GO) test -count=1
SCTP          := test/cluster/components/agnhost/sctp

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the Debian packages, build the cluster's components (minutes, once)
	@$(LAB) packages
	@$(LAB) build

demo: setup ## boot a cluster, install tierwall, show a shop being isolated (as root)
	@$(GO) run ./demo

demo-down: ## remove every trace of the demo
	@$(LAB) down

images: ## pack the container images into out/
	@$(GO) run ./images/pack -o out

test: setup lint test-unit test-shorthash test-netns test-admission test-cluster ## all tests (as root)

test-fresh: ## setup and test as on a new machine, with every cache empty; before a release (hours, 10 GB in $TMPDIR, as root)
	@test/fresh/run

test-unit: ## the quick inner loop: no root, no cluster
	$(GO) vet ./...
	$(TEST) -timeout 30m ./...
	cd $(SCTP) && $(GO) vet -tags netns ./... && $(TEST) ./...

# Golden files have names with whole hashes.
test-shorthash: ## what compares programs and rules, with hashes of 8 bits
	$(TEST) -tags shorthash -timeout 30m -skip '^TestGolden' ./internal/contenthash ./test/differential ./enforcer/transition ./enforcer/iptables

test-netns: ## real packets through the real kernel, in network namespaces
	$(TEST) -tags netns -p 1 -timeout 60m ./test/netns/... ./test/memgroup/... ./enforcer/...
	cd $(SCTP) && $(TEST) -tags netns ./...

test-admission: ## admission against the real API server
	$(TEST) -tags admission -timeout 30m ./test/admission/...

test-cluster: ## the chart, installed by Helm on the real cluster
	$(TEST) -tags cluster -p 1 -timeout 40m ./test/cluster/... ./test/e2e/... ./test/chart/certmanager/...

# Each of these is part of test too.
test-hostile: setup ## the attacks alone: a tenant's, a pod's, a stolen account's (as root)
	$(TEST) ./test/worst/...
	$(TEST) -tags netns -p 1 -timeout 30m -run 'LinkLocal|Tunnels|PastThePacketFilter|PathsAreFound|NeighbourDiscovery|IPVS|AllShapes|PortsOfNodes|Forged|OwnAddresses' ./test/netns
	$(TEST) -tags admission -run 'Stolen|Account|Exempt|Hostile|Huge|Finalizer|Terminating|InFlight|Taken|Thousand' ./test/admission
	$(TEST) -tags cluster -timeout 40m -run TestHostile ./test/e2e

conformance: setup ## the upstream tests of both kinds of policy, with kube-proxy in both modes (over an hour)
	@$(LAB) build conformance
	@$(GO) run ./test/conformance

build: ## the command line, bin/tierwall
	$(GO) build -trimpath -o bin/tierwall ./cmd/tierwall

release: ## the command line for Linux, macOS and Windows, bin/tierwall-*
	@for p in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64; do \
		o=bin/tierwall-$${p%/*}-$${p#*/}; case $$p in windows/*) o=$$o.exe;; esac; echo "$$o"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -trimpath -ldflags='-s -w' -o $$o ./cmd/tierwall || exit 1; \
	done

bench: setup ## benchmarks: compiling and memory, packets, changes, the webhook (half an hour, as root)
	@$(GO) run ./test/bench
	$(GO) test -tags netns -run '^$$' -bench . -benchtime 1x -timeout 1h ./test/bench/packets
	$(GO) test -tags netns -run '^$$' -bench . -benchtime 1x -timeout 1h ./test/bench/change
	$(GO) test -run '^$$' -bench . -benchmem ./policy/... ./rego/... ./webhook/...
	$(GO) run ./test/worst -for 4m -o out/worst

lint: ## golangci-lint, with the import rules
	GOLANGCI_LINT_CACHE=$${GOLANGCI_LINT_CACHE:-$(CURDIR)/out/golangci-lint} $(GO) run $(GOLANGCI_LINT) run --allow-parallel-runners ./...

generate: ## deepcopy functions and CRDs from the API types
	$(GO) run $(CONTROLLER_GEN) object crd:maxDescLen=300 paths=./api/... output:crd:dir=charts/tierwall/crds

reference: ## the pages of docs/reference, from the source
	$(GO) run ./internal/reference

.PHONY: help setup demo demo-down build release images test test-fresh test-unit test-shorthash test-netns test-admission test-cluster test-hostile conformance bench lint generate reference
