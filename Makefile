# The commands of this repository. Everything works from a clean clone with Rust, a C compiler and make; every build keeps
# to Cargo.lock. `make` alone lists them.

CARGO ?= cargo
LOCKED := --locked

.DEFAULT_GOAL := help
.PHONY: help build run check fmt test sim simulate bench clean

help: ## this list
	@grep -E '^[a-z_-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z_-]+):.*## /  make \1\t/' | expand -t 16

build: ## the tombola binary, optimised
	$(CARGO) build --release $(LOCKED)

run: ## a three-node cluster on this machine, on temporary data, until Ctrl-C
	$(CARGO) run --release $(LOCKED) -- dev

check: ## formatting, lints, documentation and the repository's own rules; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(LOCKED) -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps $(LOCKED)
	$(CARGO) test $(LOCKED) --test tidy

fmt: ## format the code
	$(CARGO) fmt --all

test: ## every test: units, golden scripts, lock-step clusters, real processes, documentation, tidy, simulation
	$(CARGO) test --workspace --no-fail-fast $(LOCKED)
	$(MAKE) --no-print-directory simulate

sim: ## one seed of the simulator: make sim SEED=7
	sim/run replay --seed $(or $(SEED),1)

simulate: ## the simulator's share of `test`: its own tests, hard cases, 200 seeds with repeats and marks, planted bugs
	sim/run test
	sim/run corpus
	sim/run marks --seeds 200 --twice 20
	sim/run mutants

bench: ## benchmarks, and instruction counts against their table; those of the store belong on the disk that matters (TMPDIR)
	$(CARGO) bench --workspace $(LOCKED)

clean: ## remove what was built
	$(CARGO) clean
