.DEFAULT_GOAL := help
.PHONY: help guests guests-all

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

guests: ## Build the guest apps into target/guests, without those whose toolchain cannot be had
	scripts/install-guest-toolchains
	scripts/build-guests

guests-all: ## The same, but a missing toolchain is an error
	scripts/install-guest-toolchains --require-all
	scripts/build-guests --require-all
