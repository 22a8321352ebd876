# Two commands matter to a newcomer: `make run` and `make test`.

GO      ?= go
SERVER  := bin/server
OAS     := internal/httpapi/oas

# The race detector watches everything but SQLite's translated C, which is four times as slow under it and no code of ours. (That
# package has no generic code, whose copies without the detector the linker could put in place of others' copies with it.) The
# flag goes by the environment, for the tests build the server too. What vets and lints has the same, so that all is built once.
FLAGS   := $(GOFLAGS) -gcflags=modernc.org/sqlite/lib=-race=false
TEST    := GOFLAGS='$(FLAGS)' TMPDIR="$$(scripts/test-folder)" $(GO) test

.PHONY: run build test test-tools generate check-generated format vet lint faults fuzz bench bench-goals bench-large bench-growth screenshots clean

run: build ## build and start the server on the embedded database
	$(SERVER)

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o $(SERVER) ./cmd/server

# The packages whose tests take longest, begun first: the last of them would run on alone.
LONGEST := ./internal/dashboard ./cmd/server ./bench ./internal/httpapi ./faults

# Everything that must hold before a change lands. Ends with go test's own lines. Three packages at a time, on two cores:
# the tests wait for browsers, kills and timeouts more than they compute.
test: test-tools check-generated format vet lint
	$(TEST) -race -timeout 20m -p 3 $(LONGEST) ./...

# PostgreSQL's programs and what else the tests call, where they are missing.
test-tools:
	scripts/test-tools

generate:
	$(GO) generate ./...

check-generated:
	@scripts/check-generated

format:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	  test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted"; exit 1; }

vet:
	GOFLAGS='$(FLAGS)' $(GO) vet -race ./...

lint:
	GOFLAGS='$(FLAGS) -race' "$$($(GO) tool -n staticcheck)" ./...

# The long form of the tests of faults, each of which is in `make test` in a short one.
faults: test-tools
	$(TEST) -race -v -timeout 2h -count 1 ./faults -rounds 20 -freeze 130s -timers 20000 -races 1000 -meetings 1000 -readers 50 -changes 1000
	$(TEST) -v -timeout 1h -count 1 ./cmd/server -run Soak -soak 10m
	$(TEST) -race -timeout 1h -count 1 ./internal/httpapi -run Generated -generated 500
	$(MAKE) fuzz

# Each fuzz target for FUZZTIME; their seeds are in `make test`.
FUZZTIME ?= 30s
fuzz: test-tools
	GO=$(GO) scripts/fuzz $(FUZZTIME)

bench: build ## this server against its baselines, on one machine, in one run
	$(GO) run ./bench compare

screenshots: test-tools ## the README's pictures of the dashboard, taken in Chromium
	$(GO) test ./internal/dashboard -count=1 -run TestScreenshots -args -screenshots "$(CURDIR)/docs/screenshots"

bench-goals: build ## every goal of docs/performance.md that needs no large database
	$(GO) run ./bench goals

bench-large: build ## changes and lists with a million flows in the database
	$(GO) run ./bench large

bench-growth: build ## changes against the size of the state, of batches, of the database, and its distance
	$(GO) run ./bench growth

clean:
	rm -rf bin bench/results
