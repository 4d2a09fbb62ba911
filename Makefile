# make build | demo | test | bench | deps | install PREFIX=… | reproducible | clean
# make lint | unit | sessions | oldkernel KERNEL=… | corpus | faults | fuzz

GO      ?= go
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
TAGS    := seccomp netgo osusergo
FUZZTIME ?= 30s
KERNEL  ?= 4.18

STATIC  := CGO_ENABLED=1 $(GO) build -trimpath -tags "$(TAGS)" \
           -ldflags '-s -w -buildid= -extldflags "-static -Wl,--build-id=none" -X main.version=$(VERSION)'
GOTEST  := $(GO) test -tags "$(TAGS)"
LINT    := $(GO) tool -modfile=test/tools/go.mod staticcheck -tags "$(TAGS)"

.PHONY: build demo test bench deps deps-build deps-test install reproducible clean lint unit sessions oldkernel corpus faults faults-short fuzz
.DELETE_ON_ERROR:

build: deps-build
	@mkdir -p bin
	$(STATIC) -o bin/dlrun ./cmd/dlrun
	@test/static.sh bin/dlrun
	@rm -rf bin/share
	@$(GO) run -tags "$(TAGS) man" -ldflags '-X main.version=$(VERSION)' ./cmd/dlrun help bin/share

deps:
	@test/deps.sh install build test

deps-build:
	@test/deps.sh check build

deps-test:
	@test/deps.sh check test

demo:
	@test/deps.sh install build
	@$(MAKE) --no-print-directory build
	@test/demo.sh

# What needs Go alone comes first, so that it runs where packages are missing, which the next part names.
test: lint unit corpus deps-test sessions oldkernel faults-short

lint:
	@out=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	  test -z "$$out" || { echo "gofmt -w $$out" >&2; exit 1; }
	$(GO) vet -tags "$(TAGS)" ./...
	$(GO) vet -tags "$(TAGS) man" ./cmd/dlrun
	$(LINT) ./...

unit: deps-build
	$(GOTEST) -v $$($(GO) list -tags "$(TAGS)" ./... | grep -v -e '/test$$' -e '/test/corpus$$' -e '/test/faults$$')

# The sessions need no cached result: they test the binary, which go test does not see.
sessions: build deps-test
	$(GOTEST) -v -count=1 -timeout=40m ./test

# A run's promises once more under a launcher that answers as an older kernel: 4.18 lacks all that the younger ones lack.
oldkernel: build deps-test
	DLRUN_TEST_KERNEL=$(KERNEL) DLRUN_TEST_ROUNDS=5 $(GOTEST) -count=1 -timeout=40m ./test \
	  -run '^(TestSessions|TestEnd|TestSignalsOnce|TestTerminal|TestJobControl|TestJoin.*)$$/^(dlrun-nosub|[^d].*)$$'

# Odd and hostile images, on the binary as the sessions are.
corpus: build
	$(GOTEST) -count=1 -timeout=15m ./test/corpus

# Broken on purpose: a few tries of each fault; or many, which takes an hour and puts the table into the document.
faults-short: build deps-test
	$(GOTEST) -count=1 -timeout=15m ./test/faults

faults: build deps-test
	DLRUN_TEST_FAULTS=long DLRUN_TEST_FAULTS_TABLE=$(CURDIR)/docs/reliability.md $(GOTEST) -v -count=1 -timeout=4h ./test/faults

bench: build deps-test
	$(GO) run -tags "$(TAGS)" ./test/bench $(BENCHFLAGS)

# Each fuzz target for $(FUZZTIME), on a file system in memory where there is one. What is found stays in testdata/fuzz.
fuzz:
	@test ! -w /dev/shm || export TMPDIR=/dev/shm; \
	  grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | while IFS=: read -r file fn; do \
	  $(GOTEST) -run '^$$' -fuzz "^$${fn#func }$$" -fuzztime $(FUZZTIME) "$$(dirname $$file)" || exit 1; done

reproducible: build
	@cp bin/dlrun bin/dlrun.first
	@GOCACHE=$$(mktemp -d) && export GOCACHE && trap 'rm -rf "$$GOCACHE"' EXIT && $(STATIC) -o bin/dlrun.second ./cmd/dlrun
	cmp bin/dlrun.first bin/dlrun.second
	@rm bin/dlrun.first bin/dlrun.second

install:
	@test -x bin/dlrun || { echo "bin/dlrun is missing: make build" >&2; exit 1; }
	install -D -m 755 bin/dlrun $(DESTDIR)$(PREFIX)/bin/dlrun
	ln -sf dlrun $(DESTDIR)$(PREFIX)/bin/git-annex-remote-dlrun
	for f in $$(cd bin/share && find . -type f); do install -D -m 644 bin/share/$$f $(DESTDIR)$(PREFIX)/share/$$f || exit 1; done

clean:
	rm -rf bin
