# Two commands: `make run` runs the main job on generated data, `make test` the tests. Each does all the set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONFIG ?= experiments/synthetic.yaml
# The tests of `make check` that run beside one another; the others start processes, one test after the other.
CHECKED ?= not processes and not ray

.PHONY: setup run test check bench docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "wardround needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray,dev]'
	touch $(READY)

run: setup
	$(BIN)/wardround run $(CONFIG)

test: setup
	$(BIN)/python -m pytest -n 2 -m "not processes and not ray and not realdata and not browser and not slow"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --doctest-modules common sites client server experiments -q
	$(BIN)/python -m pytest -n 2 -m "$(CHECKED)"
	$(BIN)/python -m pytest -m "processes or ray"

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "documentation: build/docs/index.html"

bench: setup
	$(BIN)/wardround bench engine
	test ! -d data/mitdb || $(BIN)/wardround bench data

clean:
	rm -rf $(VENV) runs build/docs .pytest_cache .mypy_cache .ruff_cache .hypothesis
