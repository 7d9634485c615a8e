# Each target is one line that CI calls too.
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: help run hosted test check bench attack faults faults-long fuzz contract chart image compose units proof fmt deny setup

run: ## Build and start everything with a simulator; prints a push URL and two curl commands
	cargo run --locked --package hpns -- all --demo

hosted: ## The hosted shape: PostgreSQL, two Redis lanes, two gateways, two workers; prints the same
	scripts/hosted.sh

test: setup check ## Everything: style, documentation, all tests
	scripts/test.sh

check: ## Format, lints, documentation, sizes of files and circles of imports
	scripts/check.sh

bench: ## What a push costs, as a table and JSON (release build, some minutes); BASELINE=commit compares
	scripts/bench.sh $(or $(SECONDS),10) $(BASELINE)

faults: ## Every provider fault, and the hosted shape under faults, as tables (half an hour)
	scripts/faults.sh

attack: ## The hosted shape, attacked by all whom docs/SECURITY.md names, beside a tenant (some minutes)
	scripts/attack.sh

faults-long: ## The hosted shape under faults in the long size (hours)
	scripts/faults.sh hosted --long

fuzz: ## Every fuzz target for 60 seconds (installs cargo-fuzz when missing)
	scripts/fuzz.sh

contract: ## Both APIs against their documents, with some thousand made-up calls (needs Python)
	scripts/contract.sh

chart: ## The Helm chart: lint, templates, schemas, laws over what is rendered
	scripts/helm.sh

image: ## An OCI image without a daemon, built twice and compared, then started and pushed through
	scripts/image.sh build && scripts/image.sh test

compose: ## The compose file: read as Docker Compose does, then started with podman and pushed through (root)
	deploy/compose/check.sh up

units: ## The systemd units: understood, and how exposed each is; `scripts/units.sh run` boots a systemd beside the machine's
	scripts/units.sh

proof: ## What is too long or too heavy for every change; writes docs/PROOF.md
	scripts/proof.sh

setup: ## Install what the tests need, as far as this user may
	scripts/setup.sh

deny: ## Licences, bans and sources of all dependencies (installs cargo-deny when missing)
	scripts/deny.sh

fmt: ## Format the code
	cargo fmt --all
