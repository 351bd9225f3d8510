# The two commands of the README are `make run` and `make test`; both set up what they need.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: run test lint install clean

run: $(VENV)/.cpu
	@test -d citemark-index/generations/ || $(BIN)/indexer build starter
	$(BIN)/streamlit run app.py

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# All of the tests, the slow ones too; some want real data (see tests/conftest.py).
test-slow: $(VENV)/.dev
	$(BIN)/pytest -m "slow or not slow"

install: $(VENV)/.cpu

$(VENV)/.cpu: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu]'
	@touch $@

$(VENV)/.dev: $(VENV)/.cpu
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu,dev]'
	@touch $@

clean:
	rm -rf $(VENV) citemark-index citemark-index-evaluation
