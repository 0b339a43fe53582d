# Two commands for a newcomer: `make lab`, then `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LINK := $(VENV)/collections/ansible_collections/edgefleet/wasm
# For `lab`: the kind of hosts, the number of servers and of agents. Left out: as the lab is, or one container.
HOSTS ?=
COUNT ?=
AGENTS ?=
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help venv lab lab-down generate lint unit test test-full lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The virtual environment is finished only when the stamp is there: a killed run starts it again.
$(STAMP): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or later is needed ($(PYTHON) is older): set PYTHON=..."; exit 1; }
	@echo "==> Python packages into $(VENV) (hashes checked)"
	@$(PYTHON) -m venv $(VENV) || { echo "make: no venv module: apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	@mkdir -p $(dir $(LINK)) && ln -sfn ../../../.. $(LINK)
	@printf '%s\n' '$(CURDIR)/$(VENV)/collections' '$(CURDIR)/pulumi' > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/edgefleet_collections.pth"
	@touch $@

venv: $(STAMP) ## Python packages and the link that makes edgefleet.wasm.* and edgefleet_pulumi resolve

lab: $(STAMP) ## throw-away hosts -> containerd, crun + WasmEdge, K3s, a Wasm workload -> smoke test -> report (HOSTS=containers|vm COUNT=n AGENTS=n)
	@python -m lab run $(if $(HOSTS),--hosts $(HOSTS)) $(if $(COUNT),--count $(COUNT)) $(if $(AGENTS),--agents $(AGENTS))

lab-down: $(STAMP) ## remove the lab's hosts, network and state
	@python -m lab down

generate: $(STAMP) ## write every generated file anew (tables, schema, group_vars, lists of images)
	@python -m tools.generate

lint: $(STAMP) ## static checks
	@python -m tests.stages static

unit: $(STAMP) ## unit tests, no lab
	@python -m tests.stages unit

test: $(STAMP) ## everything that CI runs
	@python -m tests.stages test

test-full: $(STAMP) ## every scenario, fault and soak; resumable, keeps a dated result file
	@python -m tests.stages full

lock: $(STAMP) ## resolve requirements/dev.in into requirements/dev.txt, with hashes
	@uv pip compile --quiet --generate-hashes --python-version 3.11 --no-header requirements/dev.in -o requirements/dev.txt

clean: ## remove the virtual environment (not the cache, not a lab)
	rm -rf $(VENV)
