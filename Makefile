# Each target is one line that CI calls too.
.PHONY: run test check bench fmt doc deny setup clean

run: ## Build and start everything with a simulator; prints a push URL and two curl commands
	cargo run --quiet --package hpns -- all --demo

test: setup check ## Everything: style, documentation, all tests
	scripts/test.sh

check: ## Format, lints, documentation
	scripts/check.sh

bench: ## What a push costs, as a table and JSON (release build, some minutes)
	scripts/bench.sh

setup: ## Install what the tests need, as far as this user may
	scripts/setup.sh

deny: ## Licences, bans and sources of all dependencies (installs cargo-deny when missing)
	scripts/deny.sh

fmt: ## Format the code
	cargo fmt --all
