# Two commands matter: `make demo` and `make test`. Both set up everything they need.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

BIN := .venv/bin
LAB := $(BIN)/python molecule/shared/lab

export PATH := $(CURDIR)/.venv/bin:/usr/sbin:/sbin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: venv ## Build the lab, provision it with site.yml, stream an answer through the edge
	@$(BIN)/python molecule/shared/demo.py

.PHONY: test
test: venv ## Lint, unit tests, ansible-test, Molecule
	@$(BIN)/python tests/run.py

.PHONY: lint unit sanity build molecule
lint unit sanity build molecule: venv ## One part of `make test`
	@$(BIN)/python tests/run.py $@

.PHONY: clean
clean: ## Remove every container, volume, network and image that the project made
	@molecule/shared/preconditions clean
	@if [ -x $(BIN)/python ]; then $(LAB) clean; fi
	@rm -rf .cache .collections .venv .venv-2.21 tests/output

.PHONY: venv
venv: .venv/.complete

.venv/.complete: requirements-dev.txt
	@molecule/shared/preconditions
	@echo "Installing the pinned tools into .venv (about a minute)"
	@rm -rf .venv
	@"$$(molecule/shared/preconditions python)" -m venv .venv
	@.venv/bin/pip install --quiet --requirement requirements-dev.txt
	@mkdir -p .collections/ansible_collections/baremetal
	@ln -sfn ../../.. .collections/ansible_collections/baremetal/vllm
	@touch $@
