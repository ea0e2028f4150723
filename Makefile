# make demo: set up, write a small library, tag it. make test-fast: on every save. make test: before a commit.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# As images of containers set it; then every process compiles all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE
# Test processes side by side: one more than cores, since much of what they do is waiting.
WORKERS ?= $(shell expr $$(nproc) + 1)
PYTEST := $(BIN)/python -m pytest
SIDE_BY_SIDE := -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations=15

.PHONY: install demo demo-models docs test-fast test test-slow test-all lint bench bench-quick bench-all bench-scale mutants schedules clean

install: $(STAMP)

# torch first and from pip alone: a plain requirement of it would fetch the CUDA build. Python compiles what it imports
# when it does, and keeps that: compiling all 26,000 files of the packages beforehand takes a minute.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $(STAMP)

# A thousand schedules of writers and readers of one destination, of which the tests run sixty: some four minutes.
schedules: $(STAMP)
	TONEARM_SCHEDULES=1 $(PYTEST) tests/unit/test_schedules.py -n $(WORKERS)

demo: $(STAMP)
	@$(BIN)/tonearm demo

# Trains the two built-in models anew, on songs that no one has to download: about half an hour on two cores.
demo-models: $(STAMP)
	$(BIN)/python -m tonearm.demo.collection demo-collection
	$(BIN)/tonearm train demo-collection/clips.csv --out src/tonearm/demo/models/genre --config recipes/demo-genre.toml \
		--tracker none --overwrite
	$(BIN)/tonearm train demo-collection/clips.csv --out src/tonearm/demo/models/tags --config recipes/demo-tags.toml \
		--tracker none --overwrite
	$(BIN)/python -m tonearm.models.openvino.convert src/tonearm/demo/models/genre src/tonearm/demo/models/tags

# No Ray, no process, no server: two minutes on two cores.
test-fast: $(STAMP)
	$(PYTEST) tests/unit -m fast -p no:schemathesis -n $$(nproc) --dist loadscope --durations=5

test: $(STAMP)
	$(PYTEST) -m "not slow" $(SIDE_BY_SIDE)

# Every proof that takes minutes; prints what each shows.
test-slow: $(STAMP)
	$(PYTEST) -m slow $(SIDE_BY_SIDE)

# Both at once, which packs them better.
test-all: $(STAMP)
	$(PYTEST) $(SIDE_BY_SIDE)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site in site/, from docs/ and the code: some ten seconds, without a network. A broken link fails.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

bench: $(STAMP)
	$(BIN)/python -m bench

bench-quick: $(STAMP)
	$(BIN)/python -m bench --quick

# Whether the fast tests notice mutants of the modules that the promises rest on; part of make bench.
mutants: $(STAMP)
	$(BIN)/python -m bench.mutants

# Training, serving and worker processes as well.
bench-all: $(STAMP)
	$(BIN)/python -m bench --all

# More than an hour on two cores, and 15 GB of disk.
bench-scale: $(STAMP)
	$(BIN)/python -m bench.scale

clean:
	rm -rf $(VENV) site demo-library demo-out demo-collection .servers
