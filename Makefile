# `make demo` and `make test` are all that a fresh machine needs; both create .venv and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TRAINER := $(VENV)/.installed-clip
DETECTION := $(VENV)/.installed-detection
# More processes than cores: many tests wait for servers and jobs.
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile

.PHONY: docs demo mini maskclip test test-long fuzz types lint bench services clean
.PHONY: timed-environment timed-services timed-lint timed-tests

demo: $(TRAINER)  ## run the embedded study and leave a report to open
	$(BIN)/ablate run demo
	@echo "open $${ABLATE_HOME:-ablate_home}/studies/demo/report/index.html"

mini: $(TRAINER)  ## run the grid of MAE-CLIP's tables in miniature and leave a report (an hour on two cores)
	$(BIN)/ablate run mae_clip_mini
	@echo "open $${ABLATE_HOME:-ablate_home}/studies/mae_clip_mini/report/index.html"

maskclip: $(DETECTION)  ## run the grid of MaskCLIP's tables in miniature and leave a report (half an hour on two cores)
	$(BIN)/ablate run maskclip_mini
	@echo "open $${ABLATE_HOME:-ablate_home}/studies/maskclip_mini/report/index.html"

# Two and two at the same time: pip waits for what apt does not, and mypy needs one core for half a minute.
test:  ## everything that continuous integration runs
	@$(MAKE) --no-print-directory --jobs=2 timed-environment timed-services
	@$(MAKE) --no-print-directory --jobs=2 timed-lint timed-tests

test-long: $(STAMP) services lint  ## the same, and the tests that take too long for each change
	$(PYTEST) --durations=40 -m 'long or not long'

EXAMPLES ?= 100000
FAULTS ?=
fuzz: $(STAMP)  ## many more changed studies, words and homes (EXAMPLES=n); FAULTS=file lists faults there and goes on
	FUZZ_EXAMPLES=$(EXAMPLES) FUZZ_COLLECT=$(FAULTS) $(BIN)/python -m pytest -n 2 -m 'long or not long' -o timeout=0 tests/fuzz

# Where the environment forbids bytecode, hundreds of processes would compile all that they import, libraries too.
unexport PYTHONDONTWRITEBYTECODE
# The bytecode of the tests and of what they import is made by one process, while apt is at work: what is imported late,
# and all that is imported when tests are collected, which each process of pytest does.
IMPORTS := mlflow.store.tracking.sqlalchemy_store, mlflow.server, hydra, submitit, matplotlib.pyplot, seaborn, pandas
BYTECODE := $(BIN)/python -W ignore -c "import pytest; pytest.main(['-q', '--collect-only']); import $(IMPORTS)"

timed-environment:
	@sh tests/timed.sh environment $(MAKE) --no-print-directory $(STAMP)
	@sh tests/timed.sh bytecode $(BYTECODE) >/dev/null

timed-services:
	@sh tests/timed.sh services $(MAKE) --no-print-directory services

timed-lint:
	@sh tests/timed.sh lint $(MAKE) --no-print-directory lint

timed-tests: $(STAMP)
	@sh tests/timed.sh tests $(PYTEST) --durations=20

types:  ## the folders under the names that they are imported by, for mypy
	@mkdir -p build/types/ablative
	@ln -sfn ../../../study/namespace/__init__.py build/types/ablative/__init__.py
	@for name in study trainer sweeps reports; do ln -sfn ../../../$$name build/types/ablative/$$name; done

lint: $(STAMP) types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## the documentation as a site that opens from the disk
	$(BIN)/python docs/make_site.py

bench: $(STAMP)  ## print the figures of tests/benchmarks; nothing fails on a time
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

services:  ## Debian packages that the tests use: PostgreSQL, Chromium, pdflatex, SLURM
	@bash tests/install-services.sh

$(TRAINER): pyproject.toml constraints.txt
	PYTHON=$(PYTHON) .ci/install --editable '.[clip]'
	touch $@

$(DETECTION): pyproject.toml constraints.txt
	PYTHON=$(PYTHON) .ci/install --editable '.[clip,detection]'
	touch $(TRAINER) $@

$(STAMP): pyproject.toml constraints.txt tests/oracles.txt
	PYTHON=$(PYTHON) .ci/install --editable '.[test]'
	.ci/install --no-deps --requirement tests/oracles.txt
	touch $(TRAINER) $(DETECTION) $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
