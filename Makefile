# The README's two commands are `make run` and `make test`; both set up what they need.
PYTHON ?= python3
VENV ?= .venv
# Linux: TORCH_INDEX=https://download.pytorch.org/whl/cpu spares the CUDA libraries of PyPI's torch.
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: run test test-slow faults mutants bench bench-gpu audit format install clean

run: $(VENV)/.cpu
	@ls citemark-index/generations/*/manifest.json >/dev/null 2>&1 || $(BIN)/indexer build starter
	$(BIN)/streamlit run app.py

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# The slow tests too: minutes to an hour, some with data that the repository does not hold.
test-slow: $(VENV)/.dev
	$(BIN)/pytest -m "slow or not slow"

# The promises of SECURITY.md with their full numbers: minutes.
faults: $(VENV)/.dev
	$(BIN)/pytest -m faults

# Speed beside what a user would write by hand: docs/bench.json and docs/bench.png; half an hour.
bench: $(VENV)/.dev
	$(PIP) -e '.[cpu,bench,openvino]'
	@ls citemark-index/generations/*/manifest.json >/dev/null 2>&1 || $(BIN)/indexer build starter
	$(BIN)/python tests/bench/bench.py $(BENCH)

# The tests that need a GPU, and nothing where there is none.
bench-gpu: $(VENV)/.dev
	$(BIN)/python tests/bench/gpu.py

# Does every promise's test fail when the promise is broken on purpose?
mutants: $(VENV)/.dev
	$(BIN)/python tests/faults/mutants.py

# Known vulnerabilities of the pinned packages; fails where one could not be looked up.
audit: $(VENV)/audit/bin/pip-audit
	$(VENV)/audit/bin/python .ci/audit $(VENV)/audit/bin/pip-audit constraints.txt

$(VENV)/audit/bin/pip-audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.cpu

$(VENV)/.cpu: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[cpu]'
	@touch $@

$(VENV)/.dev: $(VENV)/.cpu
	$(PIP) -e '.[cpu,dev,milvus-lite]'
	@touch $@

clean:
	rm -rf $(VENV) citemark-index citemark-index-evaluation
