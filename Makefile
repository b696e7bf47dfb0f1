# sigstack: `make run` builds and serves it, `make test` tests everything.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

BIN   := bin/sigstack
TOOLS := $(CURDIR)/.tools/bin
# Trillian's MySQL driver sequences a batch with few statements under this tag.
TAGS  := batched_queue
# How long each fuzz target runs in `make fuzz`.
FUZZTIME ?= 1m
SOAK     ?= 30m

.PHONY: run build build-pkcs11 test lint proto-check unit race e2e trace hold bench bench-mysql soak soak-mysql faults faults-mysql faults-replicas faults-reload mutants compare-rekor fuzz short-fuzz proto tools vuln clean

## run: build, and serve with embedded storage and a development issuer
run: build
	exec $(BIN) serve --dev

## build: the one binary, static
build:
	CGO_ENABLED=0 go build -tags $(TAGS) -trimpath -o $(BIN) ./cmd/sigstack

## build-pkcs11: the same, which loads PKCS #11 modules and so needs a C library
build-pkcs11:
	CGO_ENABLED=1 go build -tags $(TAGS) -trimpath -o $(BIN)-pkcs11 ./cmd/sigstack

## test: everything, after installing what the tests need
test: tools lint proto-check unit race e2e trace hold short-fuzz

## tools: Debian packages and pinned clients that the tests use
tools:
	scripts/debian.sh
	scripts/tools.sh

## lint: text only, formatting, vet, staticcheck
lint:
	@! git ls-files --eol | grep '^i/-text' || { echo "these are no text: the module keeps none"; exit 1; }
	@test -z "$$(gofmt -l $$(git ls-files '*.go') | tee -a /dev/stderr)" || { echo "run gofmt -w on these"; exit 1; }
	go mod tidy -diff
	go vet -tags $(TAGS) ./...
	$(TOOLS)/staticcheck -tags $(TAGS) ./...

## proto-check: the committed generated code is what the .proto files give
proto-check:
	scripts/proto.sh --check

# What runs the real binary has its own steps.
PACKAGES = $$(go list ./... | grep -v -e /test/e2e -e /test/deploy -e /test/bench -e /test/faults -e /test/badinput -e /test/trace)

## unit: unit and conformance tests, to their full sizes
unit:
	go test -tags $(TAGS) -timeout 30m $(PACKAGES)
	CGO_ENABLED=0 go test -tags $(TAGS) -run TestStaticProgram ./trust/keys

## race: the same under the race detector, to smaller sizes
race:
	go test -tags $(TAGS) -timeout 30m -race -short $(PACKAGES)

## e2e: real clients against the real binary; the image and the compose file
e2e:
	go test -tags $(TAGS) -count=1 ./test/e2e/... ./test/deploy

## trace: the order of system calls, and failures of each, under strace
trace:
	go test -tags $(TAGS) -count=1 -timeout 25m ./test/trace

## hold: kills, faults, replicas and hostile input
hold:
	go test -tags $(TAGS) -count=1 -p 1 -timeout 40m ./test/badinput ./test/faults

## faults: 1,000 random kills over each storage (FAULTS_SEED repeats a run)
faults:
	FAULTS_KILLS=1000 go test -tags $(TAGS) -count=1 -timeout 60m -run 'TestKills$$' -v ./test/faults

## faults-mysql: each fault of a database 20 times, a lost COMMIT 200 times (FAULTS_SEED repeats a run)
faults-mysql:
	FAULTS_DB_ROUNDS=20 go test -tags $(TAGS) -count=1 -parallel 5 -timeout 90m -run '^(TestDatabase.*|TestCommitCut|TestHostBlocked|TestFailover)$$' -v ./test/faults

## faults-replicas: 100,000 writes by three replicas, one of them killed every 5 s
faults-replicas:
	FAULTS_REPLICA_WRITES=100000 go test -tags $(TAGS) -count=1 -timeout 90m -run 'TestReplicas$$' -v ./test/faults

## faults-reload: 10,000 certificates while chain and configuration are swapped every second
faults-reload:
	RELOAD_CERTIFICATES=10000 go test -tags $(TAGS) -count=1 -timeout 30m -run 'TestReload$$' -v ./test/faults

## bench: latencies of the whole stack and of its parts
bench:
	go test -tags $(TAGS) -run '^$$' -bench . -benchtime 5s -timeout 90m ./test/bench ./storage/... ./ca ./tlog/entry

## bench-mysql: entries over MariaDB, and Log.Add over both storages by turns
bench-mysql:
	go test -tags $(TAGS) -run '^$$' -bench 'OverMySQL|OverBoth' -benchtime 5s ./test/bench

## soak: 30 minutes at half of the highest rate, and a million entries
soak:
	SOAK=$(SOAK) go test -tags $(TAGS) -count=1 -timeout 3h -run 'TestSoak$$' -v ./test/bench

## soak-mysql: the same over MariaDB, and two million entries
soak-mysql:
	SOAK_STORAGE=mysql $(MAKE) soak

## compare-rekor: the same requests to this server and to rekor-server (COMPARE_SEED sends others), and its log taken over
compare-rekor:
	scripts/compare-with-rekor

## mutants: seeded faults, each of which a test must notice
mutants:
	go run ./scripts/mutants

## fuzz: each fuzz target for FUZZTIME
fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

## short-fuzz: ten seconds of each fuzz target, from the seeds and with the same random numbers each time
short-fuzz:
	FUZZSEED=1 FUZZTIME=10s scripts/fuzz.sh

## proto: generated code from the .proto files, byte for byte what is committed
proto:
	scripts/proto.sh

## vuln: known vulnerabilities in what is linked (needs its database)
vuln:
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

clean:
	rm -rf bin .tools
