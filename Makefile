# What CI runs is .ci/run; it uses the targets below and nothing else.
GO       ?= go
FUZZTIME ?= 10s
BENCH    ?=
FIGURES  ?=
SOAK     ?= 5m
INTEROP  ?= ^TestInterop
CROSS    ?= linux/amd64 linux/arm64 darwin/arm64 windows/amd64 freebsd/amd64

.PHONY: build test race lint fuzz bench soak interop cross demo check

# One static program, bin/sstproxy.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o bin/sstproxy ./cmd/sstproxy

# Every test that needs nothing but Go.
test:
	$(GO) test -shuffle=on ./...

# The same under the race detector, which is the one thing here that needs a C compiler.
race:
	@command -v "$${CC:-gcc}" >/dev/null || { echo "make race: no C compiler ($${CC:-gcc}): the race detector is linked with cgo; install gcc and libc6-dev"; exit 1; }
	CGO_ENABLED=1 $(GO) test -race -shuffle=on ./...

# Formatting, vet and staticcheck, the latter as pinned by the tool line of go.mod.
lint:
	@out=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .); [ -z "$$out" ] || { echo "not formatted by gofmt:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# Every fuzz target there is, FUZZTIME each, two at a time.
fuzz:
	@for pkg in $$($(GO) list ./...); do \
		$(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' | sed "s|^|$$pkg |"; \
	done | GO="$(GO)" FUZZTIME="$(FUZZTIME)" xargs -P 2 -L 1 .ci/fuzz

# The program beside one plain TLS connection, in the same run: all figures, or
# FIGURES="connect scale"; BENCH=quick takes a minute.
bench: build
	BENCH=$(BENCH) $(GO) run ./cmd/bench bin/sstproxy $(FIGURES)

# The tunnel lost in all ways there are while it is used, for SOAK; SOAK_SEED
# repeats the faults of another run.
soak:
	SOAK=$(SOAK) $(GO) test -count=1 -v -timeout 0 -run '^TestSoak$$' ./cmd/sstproxy

# The suite against a real server, named by SSTPROXY_INTEROP_… (see README.md).
interop: build
	SSTPROXY_INTEROP_BINARY=$(CURDIR)/bin/sstproxy $(GO) test -count=1 -v -timeout 20m -parallel 8 -run '$(INTEROP)' ./cmd/sstproxy

# The other systems: that it builds for them.
cross:
	@set -e; for target in $(CROSS); do \
		echo "cross $$target"; \
		CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) build -trimpath -o /dev/null ./cmd/sstproxy; \
	done

# An embedded server, a tunnel to it, and a page fetched through both proxies.
demo: build
	bin/sstproxy demo $(DEMOFLAGS)

# What a commit must pass.
check: lint race
	$(MAKE) fuzz FUZZTIME=2s
