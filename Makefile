# Short targets; each does its own set-up.
.PHONY: demo test test-full nightly sim soak bench build pkcs11 lint

export CGO_ENABLED ?= 0
FUZZTIME ?= 5m
SOAK ?= 30m
SEEDS ?= 100000

build:            ## the static binary, bin/holdfast
	go build -trimpath -o bin/holdfast .

pkcs11:           ## the helper for PKCS#11 tokens, bin/holdfast-pkcs11; needs a C compiler
	CGO_ENABLED=1 go build -trimpath -o bin/holdfast-pkcs11 ./cmd/holdfast-pkcs11

demo: build       ## the main job, from start to proof, on loopback
	@.ci/setup demo
	bin/holdfast demo --script

test: lint        ## what CI runs
	@.ci/setup
	HOLDFAST_REQUIRE_OPENSSH=1 HOLDFAST_REQUIRE_CLIENTS=1 HOLDFAST_REQUIRE_NAMESPACES=1 go test -timeout 20m ./...
	CGO_ENABLED=1 go test -race -short -timeout 20m $$(go list ./... | grep -v '/e2e$$')

test-full:        ## every count in full
	@.ci/setup
	HOLDFAST_TEST_FULL=1 HOLDFAST_REQUIRE_OPENSSH=1 HOLDFAST_REQUIRE_CLIENTS=1 HOLDFAST_REQUIRE_NAMESPACES=1 go test -timeout 120m -count 1 ./...

nightly: test-full ## every fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

sim:              ## SEEDS histories of the mesh, a tenth as many of cores of it, and SEEDS of decisions
	HOLDFAST_SIM_SEEDS=$(SEEDS) go test -count 1 -v -timeout 24h -run '^(TestSimulation|TestSimulationOfACore|TestSitesOfAMesh)$$' ./events/mesh ./commands/rotation

soak:             ## 500 mixed sessions for SOAK
	@.ci/setup
	HOLDFAST_SOAK=$(SOAK) HOLDFAST_REQUIRE_OPENSSH=1 go test -count 1 -v -timeout 2h -run '^TestSoak$$' ./e2e

bench:            ## ratios against the named peers, in one run
	@.ci/setup
	go test -run '^$$' -bench . -benchtime 1s ./events/... ./gateway/... ./replay/... ./projections/... ./commands/...
	go run ./bench

lint:             ## format, vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
