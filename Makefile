# virtceph: `make help` lists what there is. `make demo` and `make test` need a Debian 12 and root;
# `make check` needs neither root nor network once `make venv` has run.

SHELL := /bin/bash
# rados and rbd exist for the distribution's Python only; another python3 may come first on the PATH.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UNPRIVILEGED := $(if $(filter 0,$(shell id -u)),,sudo )

.DEFAULT_GOAL := help
.PHONY: help python packages venv check format generate test fault-mutants demo lab-up lab-down bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15

python:
	@[ -x $(PYTHON) ] || { \
	  echo "installing python3, which everything else here needs"; \
	  $(UNPRIVILEGED)apt-get update -qq && \
	  $(UNPRIVILEGED)env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3 >/dev/null; \
	}

packages: python ## install the Debian packages that the lab and the tests need
	@missing="$$($(PYTHON) -m tests.lab.packages --missing)"; \
	if [ -n "$$missing" ]; then \
	  echo "installing Debian packages: $$missing"; \
	  $(UNPRIVILEGED)apt-get update -qq && \
	  $(UNPRIVILEGED)env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	fi

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "no Python module ensurepip: install python3-venv"; exit 1; }
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,check]'
	@touch $@

venv: $(STAMP) ## make the virtual environment .venv from the distribution's Python

generate: $(STAMP) ## renew what is made from the contract and the code (docs, completion, example)
	$(BIN)/python -m virtceph.schema.render docs/
	$(BIN)/python -m virtceph.daemon --print-config > contrib/conf.d/virtcephd.toml.example

format: $(STAMP) ## format the code
	$(BIN)/ruff format -q src tests bench
	$(BIN)/ruff check -q --fix src tests bench

check: $(STAMP) ## format, lint, types, unit and wire tests: no root, no network, under 30 s
	$(BIN)/ruff format -q --check src tests bench
	$(BIN)/ruff check -q src tests bench
	$(BIN)/mypy --no-error-summary
	$(BIN)/python -m pytest -q tests/unit tests/wire

test: packages venv ## install what is needed and run every test
	$(BIN)/python -m pytest -q

fault-mutants: packages venv ## take out one protection after the other and see its test fail
	$(BIN)/python -m tests.faults.mutate

demo: python ## show the main job on a real Ceph, libvirt and guest
	@$(PYTHON) -m tests.lab.consent
	@$(MAKE) -s packages venv
	@$(BIN)/python -m tests.lab.demo

lab-up: packages venv ## start the lab and the daemon, and leave them running (see .lab/env)
	$(BIN)/python -m tests.lab up

lab-down: ## end everything that lab-up started
	$(BIN)/python -m tests.lab down

bench: packages venv ## measure, as ratios within one run
	$(BIN)/python -m bench

clean: lab-down ## remove the environment and caches of this checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
