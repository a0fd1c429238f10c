# virtceph: `make help` lists what there is. `make demo` and `make test` need a Debian 12 and root;
# `make check` needs neither root nor network once `make venv` has run.

SHELL := /bin/bash
# rados and rbd exist for the distribution's Python only; another python3 may come first on the PATH.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUILD := build
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/virtceph/__init__.py)
UNPRIVILEGED := $(if $(filter 0,$(shell id -u)),,sudo )

.DEFAULT_GOAL := help
.PHONY: help python packages venv fuzzer check format generate test test-trixie fault-mutants fuzz stress demo lab-up lab-down deb dist bench clean

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
	$(BIN)/python -m pip install -q --disable-pip-version-check --use-pep517 -e '.[test,check]'
	@touch $@

venv: $(STAMP) ## make the virtual environment .venv from the distribution's Python

generate: $(STAMP) ## renew what is made from the contract and the code (docs, completion, example)
	$(BIN)/python -m virtceph.schema.render docs/
	$(BIN)/python -m virtceph.host.metricpage docs/
	$(BIN)/python -m virtceph.doctor.page docs/
	$(BIN)/python -m virtceph.manpages contrib/man/
	$(BIN)/python -m virtceph.daemon --print-config > contrib/conf.d/virtcephd.toml.example

format: $(STAMP) ## format the code
	$(BIN)/ruff format -q src tests bench
	$(BIN)/ruff check -q --fix src tests bench

check: $(STAMP) ## format, lint, types, unit and wire tests: no root, no network, half a minute
	@# Most tests wait, for heart-beats and the like: side by side they wait together.
	@$(MAKE) -s -k -j $(words code $(SHARDS)) --output-sync=target check-code $(SHARDS)

SHARDS = check-wire-http check-wire-stomp check-transcripts check-unit-a-c check-unit-d-e check-unit-f-r check-unit-s-z
.PHONY: check-code $(SHARDS)
check-wire-http: TESTS = tests/wire --ignore-glob='*stomp*.py' --ignore-glob='*transcripts.py'
check-wire-stomp: TESTS = tests/wire/test_stomp_[a-s]*.py
check-transcripts: TESTS = tests/wire/*transcripts.py
check-unit-a-c: TESTS = tests/unit/test_[a-c]*.py
check-unit-d-e: TESTS = tests/unit/test_[de]*.py
check-unit-f-r: TESTS = tests/unit/test_[f-r]*.py tests/fuzz/test_targets.py
check-unit-s-z: TESTS = tests/unit/test_[s-z]*.py

check-code:
	$(BIN)/ruff format -q --check src tests bench
	$(BIN)/ruff check -q src tests bench
	$(BIN)/mypy --no-error-summary

$(SHARDS):
	@$(BIN)/python -m pytest -q --disable-warnings $(TESTS)

fuzzer: $(STAMP)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	  $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[fuzz]' || \
	  echo "atheris cannot be installed for this Python: fuzzing is left out"

fuzz: fuzzer ## feed the wire with what nobody would send, for ten minutes
	@for target in frames bodies parameters; do $(BIN)/python -m tests.fuzz $$target --seconds 200 || exit; done

# CI gives what fails a second look: PYTEST=tests.twice.
PYTEST ?= pytest
test: packages venv fuzzer ## install what is needed and run every test
	@$(BIN)/python -m tests.parts $(PYTEST)

# Which tests; without it all of tests/integration.
TRIXIE ?=
test-trixie: packages venv ## run the integration tests in Debian 13, made in a folder
	$(BIN)/python -m tests.package.release trixie $(PYTEST) $(TRIXIE)

fault-mutants: packages venv ## take out one protection after the other and see its test fail
	$(BIN)/python -m tests.faults.mutate

stress: lab-up ## have eight callers ask for random verbs at once, for two minutes
	@. .lab/env; $(BIN)/python -m tests.stress; status=$$?; $(BIN)/python -m tests.lab down; exit $$status

demo: python ## show the main job on a real Ceph, libvirt and guest
	@$(PYTHON) -m tests.lab.consent
	@$(MAKE) -s packages venv
	@$(BIN)/python -m tests.lab.demo

lab-up: packages venv ## start the lab and the daemon, and leave them running (see .lab/env)
	$(BIN)/python -m tests.lab up

lab-down: ## end everything that lab-up started
	$(BIN)/python -m tests.lab down

deb: packages ## build the Debian package into build/
	@rm -rf $(BUILD)/deb && mkdir -p $(BUILD)/deb/virtceph
	@git ls-files -z | xargs -0 cp --parents -t $(BUILD)/deb/virtceph
	@cp -r contrib/debian $(BUILD)/deb/virtceph/debian
	@sed -e 's/@VERSION@/$(VERSION)/' -e "s/@DATE@/$$(git log -1 --format=%aD)/" \
	  contrib/debian/changelog.in > $(BUILD)/deb/virtceph/debian/changelog
	@cd $(BUILD)/deb/virtceph && dpkg-buildpackage -b -us -uc >../build.log 2>&1 || { tail -n 40 ../build.log; exit 1; }
	@mv $(BUILD)/deb/virtceph_*.deb $(BUILD)/ && ls $(BUILD)/virtceph_*.deb

dist: venv ## build the wheel and the source archive into dist/
	$(BIN)/python -m pip install -q --disable-pip-version-check build
	$(BIN)/python -m build -q --outdir dist .
	@ls dist

bench: packages venv ## measure, as ratios within one run
	$(BIN)/python -m bench

clean: lab-down ## remove the environment and caches of this checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
