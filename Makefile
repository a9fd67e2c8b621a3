# The first `make demo`, `make test` or `make setup` makes .venv with everything in it; later ones reuse it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export NO_ALBUMENTATIONS_UPDATE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo bench-search bench-study bench-detection bench-data fuzz test lint format clean
.DEFAULT_GOAL := setup

setup: $(READY)

$(READY): pyproject.toml scripts/install_detectron2.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off -e '.[detection,postgres,cluster,dev]'
	$(BIN)/python scripts/install_detectron2.py
	touch $@

demo: $(READY)
	$(BIN)/python scripts/demo.py

# PEER=FOLDER adds AutoAlbument: a folder with its config and its Python 3.8 environment (scripts/peer.py).
bench-search: $(READY)
	$(BIN)/python scripts/bench_search.py $(if $(PEER),--peer $(PEER))

# RECORD=1 writes the result file.
bench-study: $(READY)
	$(BIN)/python scripts/install_postgres.py
	$(BIN)/python scripts/bench_study.py $(if $(RECORD),--record)

# LIVECELL_ROOT=FOLDER takes real images; RECORD=1 writes the result file. About an hour on two cores.
bench-detection: $(READY)
	$(BIN)/python scripts/bench_detection.py $(if $(RECORD),--record)

# RECORD=1 writes the result file. Takes a few minutes, 1 GB of disk and 4 GB of memory, which is the other side's.
bench-data: $(READY)
	$(BIN)/python scripts/bench_data.py $(if $(RECORD),--record)

# Damaged files at random, for SECONDS; the fixed ones are part of `make test`. What failed is kept in runs/fuzz.
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/fuzz.py --seconds $(or $(SECONDS),600)

# Two processes with one thread each; a file's tests stay together, as they share what is dear to make.
test: lint
	$(BIN)/python scripts/install_postgres.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build runs *.egg-info
