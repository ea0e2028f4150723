# make demo: set up, write a small library, tag it. make test: the whole suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo demo-models test test-slow test-long lint bench bench-quick bench-all bench-scale clean

install: $(STAMP)

# torch first and from pip alone: a plain requirement of it would fetch the CUDA build.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/tonearm demo

# Trains the two built-in models anew, on songs that no one has to download: about half an hour on two cores.
demo-models: $(STAMP)
	$(BIN)/python -m tonearm.demo.collection demo-collection
	$(BIN)/tonearm train demo-collection/clips.csv --out src/tonearm/demo/models/genre --config recipes/demo-genre.toml \
		--tracker none --overwrite
	$(BIN)/tonearm train demo-collection/clips.csv --out src/tonearm/demo/models/tags --config recipes/demo-tags.toml \
		--tracker none --overwrite
	$(BIN)/python -m tonearm.models.conversion src/tonearm/demo/models/genre src/tonearm/demo/models/tags

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" --durations=15

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not long" --durations=15

test-long: $(STAMP)
	$(BIN)/python -m pytest -m long

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m bench

bench-quick: $(STAMP)
	$(BIN)/python -m bench --quick

# Training, serving and worker processes as well.
bench-all: $(STAMP)
	$(BIN)/python -m bench --all

# More than an hour on two cores, and 15 GB of disk.
bench-scale: $(STAMP)
	$(BIN)/python -m bench.scale

clean:
	rm -rf $(VENV) demo-library demo-out demo-collection .servers
