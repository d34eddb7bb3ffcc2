# Every target works in a fresh clone; `make` alone lists them.
GOLANGCI_LINT ?= go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
DEMO ?= demo
SEED ?= 1
RUNS ?= 100
SEEDS ?= 100000
FUZZTIME ?= 10s
STORMTIME ?= 60s

.DEFAULT_GOAL := help
.PHONY: help build demo test check fuzz bench chaos storm simulate

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/penstock, the plugins and the WebAssembly module
	CGO_ENABLED=0 go build -o bin/ ./cmd/penstock
	CGO_ENABLED=0 go build -o bin/penstock-source-csv ./plugins/csv/plugin
	CGO_ENABLED=0 go build -o bin/penstock-source-postgres ./plugins/postgres/plugin
	CGO_ENABLED=0 GOOS=wasip1 GOARCH=wasm go build -trimpath -ldflags=-s -o bin/csv.wasm ./plugins/csv/plugin

demo: build ## write a made-up shop to DEMO (demo) and read its orders in 64 MiB
	bin/penstock demo $(DEMO)
	bin/penstock read csv:$(DEMO) orders --memory 64MiB --limit 10 --format table --stats

test: ## run all tests with the race detector
	go test -race ./...

check: ## format, tidy, vet, lint and build for every system; fails if the tree is dirty
	$(GOLANGCI_LINT) fmt
	go mod tidy
	cd testkit/testdata/plugin && go mod tidy
	go vet ./...
	$(GOLANGCI_LINT) run
	GOOS=wasip1 GOARCH=wasm go build ./sources/... ./core/... ./outputs ./plugins/csv/...
	GOOS=js GOARCH=wasm go build ./sources ./sources/wire ./core/... ./outputs ./plugins/csv
	GOOS=darwin GOARCH=arm64 go build ./...
	GOOS=windows GOARCH=amd64 go build ./...
	GOOS=linux GOARCH=arm64 go build ./...
	@test -z "$$(git status --porcelain)" || { git status --short; echo "make check: the tree is dirty; commit the changes above"; exit 1; }

# Go minimizes each input that reaches new code, for 60s by default: a target with long inputs
# would do nothing else.
fuzz: ## run each fuzz target for FUZZTIME (10s)
	@go list ./... | while read -r pkg; do \
		targets=$$(go test -list '^Fuzz' $$pkg) || { echo "$$targets"; exit 1; }; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$pkg || exit 1; \
		done; \
	done

chaos: ## break RUNS (100) streams in random ways, from SEED (1) on, and check the results
	@mkdir -p bin
	go build -o bin/chaos ./chaos
	bin/chaos -seed $(SEED) -runs $(RUNS)

storm: ## use streams from 50 goroutines for STORMTIME (60s) in each wall, with the race detector
	@mkdir -p bin
	go build -race -o bin/storm ./chaos/storm
	bin/storm -seed $(SEED) -for $(STORMTIME)

simulate: ## run SEEDS (100000) simulated worlds of the engine, from SEED (1) on, and check every answer
	go test ./simulate -run '^TestSimulate$$' -seed $(SEED) -seeds $(SEEDS) -timeout 0

bench: ## run the Go benchmarks and report allocations
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-csv
bench-csv: ## compare CSV with encoding/csv, arrow-go and DuckDB, then read some columns and rows
	cd bench && go build -o ../bin/bench-csv ./csv
	bin/bench-csv
	bin/bench-csv -part

.PHONY: bench-postgres
bench-postgres: ## compare PostgreSQL with psql, pgx, database/sql, GORM and bun
	cd bench && go build -o ../bin/bench-postgres ./postgres
	bin/bench-postgres

.PHONY: bench-cache
bench-cache: ## measure the cache: speed and memory, and hit rates beside LRU, ristretto and otter
	cd bench && go build -o ../bin/bench-cache ./cache
	bin/bench-cache

.PHONY: bench-memory
bench-memory: build ## compare peak memory with the limit; writes docs/memory.md
	@mkdir -p docs
	cd bench && go build -o ../bin/bench-memory ./memory
	bin/bench-memory -bin bin -to docs

.PHONY: bench-streams
bench-streams: ## compare 200 concurrent streams with the same streams one after another
	cd bench && go build -o ../bin/bench-streams ./streams
	bin/bench-streams

.PHONY: bench-relations
bench-relations: ## compare relations with GORM, bun, json_agg and psql, and with scans of CSV files
	cd bench && go build -o ../bin/bench-relations ./relations
	bin/bench-relations
	bin/bench-relations -percent 20 -only "psql ordered dump,penstock,gorm Preload,bun relations"
	bin/bench-relations -percent 5 -only "psql ordered dump,penstock,gorm Preload,bun relations"
	bin/bench-relations -percent 1 -only "psql ordered dump,penstock,gorm Preload,bun relations"
	bin/bench-relations -skewed
	bin/bench-relations -source csv

.PHONY: bench-walls
bench-walls: build ## measure the time to the first chunk and the throughput of each wall
	cd bench && go build -o ../bin/bench-walls ./walls
	bin/bench-walls -modules bin
	bin/bench-walls -modules bin -orders 1000
	bin/bench-walls -carrier=1000
	bin/bench-walls -carrier=65536

.PHONY: bench-isolate
bench-isolate: ## measure by how much plugins exceed their memory cap
	cd bench && go build -o ../bin/bench-isolate ./isolate
	cd bench && ../bin/bench-isolate
