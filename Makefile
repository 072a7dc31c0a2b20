# `make demo` and `make test` do all the set-up themselves; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python
CONFIG := configs/demo.toml
# Words appended to the three scripts of the demo, for example DEMO="--train.epochs 1".
DEMO ?=

.PHONY: demo before test lint setup clean

demo: before setup data/demo/splits/val/fold2.txt
	$(RUN) main_0_extract_masks.py --config $(CONFIG) $(DEMO)
	$(RUN) main_1_mgcl_train.py --config $(CONFIG) --train.resume auto $(DEMO)
	$(RUN) main_2_mgcl_test.py --config $(CONFIG) $(DEMO)
	@echo
	@echo "Three things to look at:"
	@echo "1. runs/demo/report.html: who won and by how much, class by class, with pictures"
	@echo "2. $(BIN)/tensorboard --logdir runs: the training, curve by curve"
	@echo "3. docs/README.md: choose your way, to your own images or to the paper's numbers"

before:
	@echo "The demo installs what it needs into .venv (once; 5 GB with PyTorch's CUDA libraries), paints"
	@echo "675 synthetic scenes, cuts them into masks, trains and tests with one and five supports:"
	@echo "about a minute on two cores after the installation, no GPU. make clean takes all of it away."

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
