# The project's commands. Each installs or builds what is missing, says what it does, and is quick the second time.
# `make demo` and `make test` are the two that matter; `make help` lists the rest.

XTASK := cargo run --quiet --package xtask --
# local: a real cluster on this machine (Linux, root). current: the cluster of the current kubectl context.
CLUSTER ?= local

.PHONY: help demo demo-down test test-long clean-up fmt lint unit e2e failures judges generate bench fuzz images

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: ## The whole product on a real cluster, step by step; the cluster is left running
	@$(XTASK) demo --cluster $(CLUSTER)

demo-down: ## Ends what `make demo` left running
	@$(XTASK) demo-down --cluster $(CLUSTER)

test: ## Everything CI runs: format, lints, unit tests, generated files, licences, chart, judges, end to end
	@$(XTASK) test

test-long: ## What is too long for CI, before a release: random input, ignored tests, each failure at length
	@$(XTASK) test --long

clean-up: ## Removes what an interrupted run left: clusters, processes, mounts, links
	@$(XTASK) clean-up

fmt: ## Formats the code
	@cargo fmt --all

lint: ## Clippy with denied warnings
	@cargo clippy --workspace --all-targets --all-features -- -D warnings

unit: ## Unit and property tests
	@cargo test --workspace

e2e: ## End-to-end tests on a local three-node cluster
	@$(XTASK) e2e

failures: ## Each failure with logins going on, at length; writes docs/failures.md
	@$(XTASK) e2e --failures

judges: ## Proxy and simulators, judged by FreeRADIUS and the vendors' own clients
	@tests/judges/run

generate: ## Writes the CRDs, the chart's copies and the reference pages
	@$(XTASK) generate

images: ## Builds the three container images
	@$(XTASK) images

fuzz: ## The tests that try random input, at length (about twenty minutes)
	@$(XTASK) fuzz

bench: ## Figures: the proxy beside an echo and FreeRADIUS, the operator with 1,000 resources; to target/bench/summary.json
	@$(XTASK) bench
