# `make demo` and `make test` do all the set-up themselves; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python
CONFIG := configs/demo.toml
# Words appended to the three scripts of the demo, for example DEMO="--train.epochs 1".
DEMO ?=

.PHONY: demo test lint setup clean

demo: setup data/demo/splits/val/fold2.txt
	$(RUN) main_0_extract_masks.py --config $(CONFIG) $(DEMO)
	$(RUN) main_1_mgcl_train.py --config $(CONFIG) --train.resume auto $(DEMO)
	$(RUN) main_2_mgcl_test.py --config $(CONFIG) $(DEMO)

data/demo/splits/val/fold2.txt: | setup
	$(RUN) -m mgcl.datasets.synthetic --to data/demo

test: lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: .venv/installed

INSTALL = $(PYTHON) -m venv .venv && $(RUN) -m pip install --quiet --disable-pip-version-check

.venv/installed: requirements.txt requirements-lite.txt
	$(INSTALL) $(^:%=-r %)
	touch $@

.venv/dev: $(wildcard requirements*.txt)
	$(INSTALL) -r requirements-dev.txt
	touch .venv/installed $@

clean:
	rm -rf .venv data/demo runs/demo
