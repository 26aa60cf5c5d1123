# Hostler's make targets. `make serve` and `make test` install what they need themselves.

.DEFAULT_GOAL := help
.PHONY: help serve test guests guests-all lint isolation bench bench-fairness bench-overload bench-brake bench-account bench-compile bench-deploy bench-hostile troubles leavers slow-writes redeploys soak crashes rewind-sequences profiled side-by-side bench-ancestors

APPS ?= target/guests
LISTEN ?= 127.0.0.1:8080

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: ## Build everything and serve the guest apps (APPS=folder, LISTEN=address)
	scripts/install-system
	scripts/install-guest-toolchains
	scripts/build-guests
	cargo build --release
	target/release/hostler serve $(APPS) --listen $(LISTEN)

test: ## Format, clippy, and all tests; all guest languages are required
	scripts/install-system --tests
	scripts/install-guest-toolchains --require-all
	scripts/build-guests --require-all
	$(MAKE) lint
	cd guest-apps && cargo test --locked -p kit
	cargo test

lint: ## Format check, and clippy with warnings as errors
	cargo fmt --check
	cd guest-apps && cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings

guests: ## Build the guest apps into target/guests, without those whose toolchain cannot be had
	scripts/install-system
	scripts/install-guest-toolchains
	scripts/build-guests

guests-all: ## The same, but a missing toolchain is an error
	scripts/install-system
	scripts/install-guest-toolchains --require-all
	scripts/build-guests --require-all

isolation: ## The long checks that no instance shows anything of another request (best as root: memory is compacted)
	cargo test --test it isolation:: -- --include-ignored --nocapture --test-threads 2

rewind-sequences: ## A million sequences of calls, on new instances and on ones that are put back (some ten minutes)
	cargo test --lib rewound::tests::sequences -- --include-ignored --nocapture

bench: ## Micro benchmarks of the pool, the instance and one request
	cargo bench

bench-fairness: ## What one app's flood does to another app's latencies (3 minutes)
	cargo bench --bench load -- fairness

bench-overload: ## What is still answered at up to three times the capacity (3 minutes)
	cargo bench --bench load -- overload

bench-brake: ## What an app that cannot start costs at 1,000 requests a second (1 minute)
	cargo bench --bench load -- brake

bench-account: ## How much of the processor time the apps account for (1 minute)
	cargo bench --bench load -- account

bench-compile: ## What compiling a 30 MB app does to another app's latencies (some minutes)
	cargo bench --bench load -- compile

bench-deploy: ## What deploys of an app at full load do to its own latencies (4 minutes)
	cargo bench --bench load -- deploy

bench-hostile: ## What a folder full of harm does to a neighbour (4 minutes)
	cargo bench --bench load -- hostile

troubles: ## 50 guests of each kind that never ends, at once (some GiB of memory, a minute)
	cargo test --test it clocks::fifty -- --ignored --nocapture

leavers: ## 100,000 clients that leave at any moment (some minutes)
	cargo test --test it leavers::a_hundred -- --ignored --nocapture

slow-writes: ## A thousand apps that are written slowly into their place (some minutes)
	cargo test --test it ways::a_thousand -- --ignored --nocapture

redeploys: ## One app deployed ten thousand times leaves nothing (some minutes)
	cargo test --test it redeploys::ten_thousand -- --ignored --nocapture

soak: ## Everything at once for ten minutes, or SOAK_SECONDS: all is as before afterwards
	cargo test --test it soak::all_is_as_before_after_a_soak -- --ignored --nocapture

crashes: ## Kill the host 1,000 times at random moments of deploys (some twenty minutes)
	cargo test --test it crashes::a_thousand -- --ignored --nocapture

profiled: guests-all ## Build target/profiled/hostler, optimised by what it does when it serves (two release builds and some load)
	scripts/build-profiled

side-by-side: ## Hostler, native hyper and `wasmtime serve` under wrk, in one run
	scripts/side-by-side

bench-ancestors: ## The modes beside CGI, PHP, Passenger, FastCGI, mod_perl, Puma, Erlang, Tomcat, Node (6 minutes; ANCESTORS=--install)
	cargo build --release
	benches/ancestors/run $(ANCESTORS)
