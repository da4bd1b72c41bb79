# `make help` lists the targets. CI (.ci/run) runs the same ones.
GO       ?= go
BIN      := bin
TOOLS    := $(BIN)/tools
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
# The agent speaks HTTP/1.1 to its cameras and its readers; HTTP/2 would be 0.5 MB.
# What only runs at a start or a scrape is not inlined: 0.25 MB. The packages are built with the same flags.
EDGE     := $(shell cat scripts/package/edge-flags)
GOLANGCI := v2.15.0
NFPM     := v2.45.0
export CGO_ENABLED ?= 0

.PHONY: help package package-test day-one build page run test test-ui interop torture bench fuzz lint tidy cross docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/langbiang-edge, bin/langbiang-hub and the demonstration
	$(GO) build -trimpath $(EDGE) -ldflags '$(LDFLAGS)' -o $(BIN)/langbiang-edge ./cmd/edge
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/langbiang-hub ./cmd/hub
	$(GO) build -trimpath -o $(BIN)/ ./scripts/fieldsim ./scripts/demo

run: build ## start a hub, a simulated field and three edge agents; stop with Ctrl-C
	@$(BIN)/demo

test: ## all tests, with the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 9m ./...

page: ## build pkg/web/dist from pkg/web/app, with Node.js; what comes out is committed
	cd pkg/web/app && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

test-ui: build ## the page in a real browser; SCREENSHOTS=docs/images takes the pictures anew
	@sh scripts/uitest/setup.sh
	@sh scripts/uitest/agree.sh
	cd scripts/uitest && SCREENSHOTS=$(if $(SCREENSHOTS),$(abspath $(SCREENSHOTS))) node --test --test-concurrency=2 --test-reporter=spec alerts.test.mjs views.test.mjs access.test.mjs
	cd scripts/uitest && node --test --test-reporter=spec load.test.mjs

interop: ## against servers not written here: pymodbus, simonvetter/modbus, mosquitto, Alertmanager, GStreamer's RTSP server, VictoriaMetrics, promtool
	@sh scripts/interop/setup.sh
	$(GO) vet -tags interop ./scripts/interop
	$(GO) test -tags interop -count=1 -timeout 5m ./scripts/interop

torture: ## promise 1 under attack, for long: make torture ROUNDS=30 STEPS=200 CUTS=2000 SEED=1
	CGO_ENABLED=1 LANGBIANG_TORTURE_ROUNDS=$(or $(ROUNDS),30) LANGBIANG_TORTURE_STEPS=$(or $(STEPS),200) LANGBIANG_TORTURE_CUTS=$(or $(CUTS),2000) LANGBIANG_TORTURE_SEED=$(SEED) $(GO) test -race -timeout 60m -count=1 -run 'Crash|Killed|Torture|PowerCut|Refuses' -v ./pkg/... ./scripts/...
	CGO_ENABLED=1 LANGBIANG_SEEDS=$(or $(SEEDS),100000) $(GO) test -race -timeout 60m -count=1 -run Oracle ./pkg/rules

bench: ## run the benchmarks and print a table
	@$(GO) run ./scripts/benchtable

fuzz: ## every fuzz target for FUZZTIME (10s) each
	@sh scripts/fuzz.sh $(or $(FUZZTIME),10s)

$(TOOLS)/golangci-lint-$(GOLANGCI):
	mkdir -p $(TOOLS)
	GOBIN=$(abspath $(TOOLS)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	mv $(TOOLS)/golangci-lint $@

lint: $(TOOLS)/golangci-lint-$(GOLANGCI) ## vet, staticcheck and the house style
	$(GO) vet ./...
	$< run ./...
	$(GO) mod tidy -diff

cross: ## build for the other machines
	for a in arm arm64 386; do for p in edge hub; do \
	  tags=; [ $$p = hub ] || tags="$(EDGE)"; \
	  GOOS=linux GOARCH=$$a GOARM=7 $(GO) build -trimpath $$tags -ldflags '$(LDFLAGS)' -o $(BIN)/linux-$$a/langbiang-$$p ./cmd/$$p || exit 1; \
	done; done

docs: ## write docs/configuration.md and the schemas in configs/schema from the types
	$(GO) run ./scripts/schemas
	$(GO) test ./pkg/edge ./pkg/hub -run ConfigurationReference -update-docs

$(TOOLS)/nfpm-$(NFPM):
	mkdir -p $(TOOLS)
	GOBIN=$(abspath $(TOOLS)) $(GO) install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM)
	mv $(TOOLS)/nfpm $@

package: $(TOOLS)/nfpm-$(NFPM) ## deb, rpm, tar and an apt repository in dist; APT_KEY=KEY signs it
	sh scripts/package/build.sh $(abspath $<) $(VERSION)

package-test: $(TOOLS)/nfpm-$(NFPM) ## build twice and compare; install, start, upgrade, remove and purge in a root of its own (as root)
	bash scripts/package/test.sh $(abspath $<)

day-one: $(TOOLS)/nfpm-$(NFPM) ## the commands of docs/day-one.md on two machines of its own, to the first alert (as root, else the page is checked)
	bash scripts/package/dayone.sh $(abspath $<)

tidy: ## go mod tidy
	$(GO) mod tidy

clean: ## remove what was built and the demonstration's data
	rm -rf $(BIN) data
