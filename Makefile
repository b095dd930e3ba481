# Everything a person does with this checkout, one word each. `make` alone explains.
# A fresh machine needs Python 3.11 or newer, git and make; everything else is installed into .venv from the lock files.

VENV    := .venv
PY      := $(VENV)/bin/python
PIP     := $(PY) -m pip install -qq --disable-pip-version-check --no-input
LOCKED  := $(PIP) --require-hashes
PYTHONS := python3.13 python3.12 python3.11 python3.14 python3 python

# What pytest is told besides: `make test ARGS="-k outbox"`. `make run ARGS=--once` hands them to the demo.
ARGS    ?=
# Much of what tests do is waiting: one worker more than processors keeps these busy.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PARALLEL = -n $(WORKERS) --maxprocesses 8 --dist loadgroup
# What `make test` leaves to targets of their own.
LONG     = --ignore tests/container --ignore tests/orthanc --ignore tests/plugin
# What the second engine must do as well as the first, but for tests/known_differences.py.
DOOR    := $(patsubst %,tests/dicom/test_%.py,association_server admission conformance mpps_cases named_sop_class tls_door) \
           tests/interop/dcmtk tests/interop/dcmjs tests/interop/pynetdicom_client tests/rehearsal \
           tests/properties/test_any_bytes.py::test_on_one_association_every_spoilt_query_is_answered_and_the_next_one_is_as_ever
# In CI (CI=true) a skipped test is a failure, see .ci/no_skips.py: there every outside tool is installed.
PYTEST  := $(if $(filter true 1,$(CI)),PYTHONPATH=.ci $(PY) -m pytest -p no_skips,$(PY) -m pytest)

# One lock for every platform and Python from 3.11 on, with hashes, without the name of any server; all extras are in it.
RESOLVE := $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

.DEFAULT_GOAL := help
MAKEFLAGS     += --no-print-directory
.PHONY: help run test orthanc second-engine quick lint format image crash soak fuzz bench screenshots stylesheet lock clean tools

help: ## this list
	@echo 'worklist gateway'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  ARGS="…" is handed on: make run ARGS=--once, make test ARGS="-k outbox"'

run: $(VENV)/ready-to-run ## set up once, then watch appointments travel: emulator, gateway, web app and modality
	@$(VENV)/bin/gateway demo $(ARGS)

test: $(VENV)/ready-to-develop tools ## set up once, then all tests but the long ones (orthanc, crash, image, soak)
	@$(PYTEST) $(PARALLEL) -m 'not crash' $(LONG) $(ARGS)

orthanc: $(VENV)/ready-to-develop tools ## with a real Orthanc: images find their appointment, routing, plugin mode. Most of it is waiting
	@$(PYTEST) -n 4 tests/orthanc tests/plugin $(ARGS)

second-engine: $(VENV)/ready-to-develop tools ## the tests of the DICOM door once more, answered by pynetdicom's own server
	@$(PYTEST) $(PARALLEL) --engine=pynetdicom $(DOOR) $(ARGS)

quick: $(VENV)/ready-to-develop ## the tests that take no time: under a minute
	@$(PYTEST) $(PARALLEL) -m 'not slow and not crash' $(LONG) $(ARGS)

lint: $(VENV)/ready-to-develop ## style, format, types, and the one-way staircase of imports
	@echo '· ruff check';    $(PY) -m ruff check .
	@echo '· ruff format';   $(PY) -m ruff format --check .
	@echo '· mypy';          $(PY) -m mypy
	@echo '· import-linter'; $(VENV)/bin/lint-imports

format: $(VENV)/ready-to-develop ## put the sources into their format
	@$(PY) -m ruff check --fix-only -q . ; $(PY) -m ruff format .

image: $(VENV)/ready-to-develop ## build the container image and run it for real (root; buildah, debootstrap, crun)
	@$(PYTEST) -n 0 -v tests/container $(ARGS)

crash: $(VENV)/ready-to-develop ## kill the service at random moments under load, over and over: nothing may be lost
	@$(PYTEST) -n 0 -m crash --ignore tests/container $(ARGS)

soak: $(VENV)/ready-to-develop ## minutes of random faults and kills, then the proof that nothing was lost: ARGS="--minutes 10 --seed 7"
	@$(PY) -m tests.soak $(ARGS)

fuzz: $(VENV)/ready-to-fuzz ## minutes of made-up bytes at the modalities' door, led by coverage (Linux): ARGS="--minutes 10"
	@$(PY) -m tests.fuzz $(ARGS)

screenshots: $(VENV)/ready-to-develop ## the pictures of the window in docs/images, taken anew with Chromium
	@$(PY) -m tests.browser.screenshots

bench: $(VENV)/ready-to-develop ## the figures of bench/README.md
	@$(PY) -m bench $(ARGS)

stylesheet: $(VENV)/ready-to-develop ## bring the window's stylesheet from npm, without what it would fetch from elsewhere
	@$(PY) -m tests.ops.vendored

lock: $(VENV)/ready-to-develop ## resolve the dependencies anew into the lock files
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PIP) uv
	@echo '· requirements.lock';       $(RESOLVE) --all-extras pyproject.toml -o requirements.lock
	@echo '· requirements-dev.lock';   $(RESOLVE) -c requirements.lock --group pyproject.toml:dev --all-extras pyproject.toml -o requirements-dev.lock
	@echo '· requirements-build.lock'; $(RESOLVE) -c requirements-dev.lock --group pyproject.toml:build -o requirements-build.lock
	@echo '· requirements-fuzz.lock';  $(RESOLVE) -c requirements-dev.lock --group pyproject.toml:fuzz -o requirements-fuzz.lock

clean: ## remove .venv, caches and build output; data/ stays
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './node_modules/*' -prune -exec rm -rf {} +
	@echo 'clean'

# ── set-up: done once, and again when a lock file changes ──────────────────────────────────────────────────────────────

$(VENV)/ready-to-run: requirements.lock requirements-build.lock pyproject.toml
	@$(call environment)
	@echo '· installing what the gateway needs (locked, hashes checked)'
	@$(LOCKED) -r requirements.lock -r requirements-build.lock
	@$(call gateway)

$(VENV)/ready-to-develop: requirements-dev.lock pyproject.toml
	@$(call environment)
	@echo '· installing what the gateway and its tests need (locked, hashes checked)'
	@$(LOCKED) -r requirements-dev.lock
	@$(call gateway)

# The system is looked at first: elsewhere the lock holds nothing, and nothing would be installed.
$(VENV)/ready-to-fuzz: $(VENV)/ready-to-develop requirements-fuzz.lock
	@[ "$$(uname -s)" = Linux ] || { echo 'make fuzz needs atheris, which is for Linux'; exit 1; }
	@echo '· installing the fuzzer, atheris (locked, hashes checked)'
	@$(LOCKED) -r requirements-fuzz.lock && touch $@

# The first Python that is new enough and complete makes .venv; a .venv that works is kept.
define environment
if ! $(PY) -m pip --version >/dev/null 2>&1; then \
    found=; complete='import sys, ensurepip, sqlite3, ssl, venv; sys.exit(sys.version_info < (3, 11))'; \
    for candidate in "$(PYTHON)" $(PYTHONS); do \
        if "$$candidate" -c "$$complete" >/dev/null 2>&1; then found=$$candidate; break; fi; \
    done; \
    if [ -z "$$found" ]; then \
        echo 'No usable Python here: this needs Python 3.11 or newer, with its venv, ssl and sqlite3 modules. Found:'; \
        for candidate in "$(PYTHON)" $(PYTHONS); do \
            version=$$("$$candidate" --version 2>/dev/null) && echo "  $$candidate is $$version"; \
        done; \
        echo 'On Debian and Ubuntu: apt-get install python3 python3-venv. Another one: make PYTHON=/path/to/python …'; \
        exit 1; \
    fi; \
    echo "· making $(VENV) with $$("$$found" --version)"; \
    "$$found" -m venv --clear $(VENV); \
fi
endef

# Compiled here, because where PYTHONDONTWRITEBYTECODE is set each start would compile our modules anew: 0.05 to 0.15 s.
define gateway
$(PIP) --no-deps --no-build-isolation --editable . && \
    $(PY) -m compileall -q gateway projections relay && touch $@ && echo '· ready'
endef

# Tests that need a tool from outside are skipped without it; this says so first. Names behind the colon: where Debian keeps it.
TOOLS := findscu:dcmtk echoscu:dcmtk node:nodejs npm:npm sqlite3:sqlite3 Orthanc:orthanc chromium:chromium

tools:
	@for tool in $(TOOLS); do \
	    PATH="$$PATH:/usr/sbin" command -v "$${tool%%:*}" >/dev/null 2>&1 || \
	        echo "· $${tool%%:*} is missing: the tests that use it are skipped (Debian: apt-get install $${tool##*:})"; \
	done
