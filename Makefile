# Two commands matter: `make demo` and `make test`. All commands set up everything they need.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

BIN := .venv/bin
LAB := $(BIN)/python molecule/shared/lab
# The shell that runs a recipe finds it; an old or missing one is refused there with a sentence.
SYSTEM_PYTHON = "$$(molecule/shared/preconditions python)"

export PATH := $(CURDIR)/.venv/bin:/usr/sbin:/sbin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: demo
demo: doctor venv ## Build the lab, provision it with site.yml, stream an answer through the edge
	@$(BIN)/python molecule/shared/demo.py

.PHONY: test
test: doctor venv ## Lint, unit tests, ansible-test, the edge, the demo and Molecule on the lab
	@$(BIN)/python tests/run.py

.PHONY: test-all
test-all: doctor venv ## `make test` and what takes long: drivers, engines and toolkits on lab hosts
	@$(BIN)/python tests/run.py --all

.PHONY: lab lint unit sanity build edge edge-scan engine molecule
lab lint unit sanity build edge edge-scan: venv ## One part of `make test`
	@$(BIN)/python tests/run.py $@

engine molecule slow: venv ## One part that runs on the lab
	@$(BIN)/python tests/run.py lab $@

.PHONY: edge-benchmark
edge-benchmark: venv ## Measure what nginx costs and keeps, on loopback, in two minutes
	@PYTHONPATH=tests:tests/edge $(BIN)/python -m edge_benchmark

.PHONY: clean
clean: venv ## Remove every container, volume, network and image that the project made
	@$(LAB) clean
	@rm -rf .cache .collections .venv .venv-2.21 tests/output

.PHONY: doctor
doctor: ## Say what this machine lacks for the lab; change nothing
	@$(SYSTEM_PYTHON) molecule/shared/lab doctor

.PHONY: venv
venv: .venv/.complete ## The pinned tools, in .venv

.venv/.complete: requirements-dev.txt
	@molecule/shared/preconditions
	@echo "Installing the pinned tools into .venv (about a minute)"
	@rm -rf .venv
	@$(SYSTEM_PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --requirement requirements-dev.txt
	@mkdir -p .collections/ansible_collections/baremetal
	@ln -sfn ../../.. .collections/ansible_collections/baremetal/vllm
	@touch $@
