# `make quickstart` and `make test` are all that a user needs; both make the environment where it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEVELOPS := .venv/.develops

.PHONY: help services quickstart serve test torture fuzz check docs format bench bench-compare clean
FILES ?= 10000
SEED ?= 0
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   install, train a small model and see what it remembers (six to thirteen minutes on two cores)"
	@echo "make serve        serve the quickstart's model, or MODEL=folder, by OpenAI's interfaces with a page to chat"
	@echo "make test         run the tests"
	@echo "make services     install what tests need of Debian's packages: redis-server, chromium (without: skipped)"
	@echo "make torture      kill what saves 500 times (KILLS=100 for fewer), and count what is lost"
	@echo "make fuzz         read 10,000 damaged files (FILES=1000 for fewer, SEED=1 for others)"
	@echo "make check        lint, types, import rule, links of README and docs"
	@echo "make docs         build the documentation site: site/index.html"
	@echo "make format       format the code"
	@echo "make bench        measure inference speed against a stateless model"
	@echo "make bench-compare OLD=... NEW=...   show what changed between two results of benchmarks, beyond noise"
	@echo "make clean        remove the environment and everything generated"

# Installs again whenever the project's files changed. pip compiles modules with one core, compileall with all; some
# packages carry files that are no Python of this version.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable .
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	touch $@

# What tests and checks need besides; groups need a newer pip than Python 3.11 has.
$(DEVELOPS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $@

quickstart: $(INSTALLED)
	$(BIN)/rxlm quickstart

MODEL ?= runs/quickstart
.venv/.serve: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[serve]"
	touch $@

serve: .venv/.serve
	$(BIN)/rxlm serve $(MODEL)

# Not a part of `test`: it installs on the machine, outside of the environment.
services:
	dev/services.sh

test: $(DEVELOPS)
	$(BIN)/python -m pytest -n auto --dist worksteal

# What takes too long for the suite: kills of all that saves, then conversations under threads and interrupts.
KILLS ?= 500
STEPS ?= 10000
torture: $(DEVELOPS)
	HF_HUB_DISABLE_PROGRESS_BARS=1 PYTHONPATH=tests:tests/training:tests/recipes $(BIN)/python dev/torture.py --kills $(KILLS)
	TORTURE_STEPS=$(STEPS) $(BIN)/python -m pytest -n auto tests/rxt/test_conversation_machine.py

# Damaged files of every kind: each must be accepted, or be an error that names it. Counts by kind are printed.
fuzz: $(DEVELOPS)
	HF_HUB_DISABLE_PROGRESS_BARS=1 PYTHONPATH=tests $(BIN)/python -m fuzzing.run --files $(FILES) --seed $(SEED)

check: $(DEVELOPS) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

# Strict: a link or an anchor that leads nowhere is an error, so that `make check` builds the site, too.
docs: $(DEVELOPS)
	$(BIN)/python dev/site_pages.py
	$(BIN)/zensical build --strict

format: $(DEVELOPS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)
	$(BIN)/python benchmarks/inference.py --preset micro

# OLD and NEW: files that benchmarks wrote, or folders of them. An error where something got worse.
bench-compare: $(INSTALLED)
	$(BIN)/python benchmarks/compare.py $(OLD) $(NEW)

clean:
	rm -rf .venv runs dist build site .cache benchmarks/results .pytest_cache .hypothesis .ruff_cache .import_linter_cache
