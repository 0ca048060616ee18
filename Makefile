# Two commands from a bare clone: `make run` and `make test`. `make help` lists the rest.

CONFIG ?= config/config.yaml
RUN = $(shell $(BIN)/fewshot settings '$(CONFIG)' 2>/dev/null | sed -n 's/^run: *//p' | tr -d "'")
# What goes to Snakemake besides, such as SNAKEMAKE_ARGS="--config device=cpu"; to pytest: PYTEST_ARGS="-k config".
SNAKEMAKE_ARGS ?=
PYTEST_ARGS ?=

# Parts of the benchmark and their options; none: all parts, small.
BENCH ?=

BIN := .venv/bin
STAMP := .venv/.installed
BENCH_BIN := benchmarks/.venv/bin
BENCH_STAMP := benchmarks/.venv/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help run provenance picture docs test bench fuzz format lock clean-venv

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

# The run file is read beforehand: of a mistake in it Snakemake says more than its one line, of a missing file a traceback.
run: $(STAMP) ## the demonstration, up to its report (another run: CONFIG=config/runs/fc100.yaml)
	@fewshot settings '$(CONFIG)' >/dev/null
	snakemake --configfile '$(CONFIG)' $(SNAKEMAKE_ARGS)
	@printf '\nReport   results/$(RUN)/report.html\nTables   results/$(RUN)/summary.csv, results/$(RUN)/tables/\n'
	@printf 'Figures  results/$(RUN)/figures/\nMLflow   $(BIN)/mlflow ui   then open http://127.0.0.1:5000/#/experiments/1/runs\n'

provenance: $(STAMP) ## Snakemake's own report of a finished run: the code, settings and software of every rule
	snakemake --configfile '$(CONFIG)' --report results/$(RUN)/provenance.html $(SNAKEMAKE_ARGS)

# Without reordering the integration tests start before the unit tests; else files of few but long tests come last, and alone.
test: $(STAMP) ## every check: format, lint, types, unit, workflow and integration tests
	ruff check
	ruff format --check
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy
	OMP_NUM_THREADS=1 pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

bench: $(BENCH_STAMP) ## rates beside the plain forms and easyfsl (BENCH="evaluation --tasks 10000 --images 12000")
	$(BENCH_BIN)/python -m benchmarks $(BENCH)

FUZZ_SECONDS ?= 60
FUZZ_TARGETS = archives packed unpickler config split store episodes results records metrics network pictures

fuzz: $(STAMP) ## coverage-guided fuzzing of every reader of files, FUZZ_SECONDS each; docs/reliability.md has the figures
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python 'atheris==3.0.0'
	@echo '| Reader | Inputs tried | Taken | Kept for their coverage | Peak memory, MB | Findings | Seconds |'
	@for target in $(FUZZ_TARGETS); do $(BIN)/python tests/fuzz/campaign.py $$target --seconds $(FUZZ_SECONDS) 2>fuzz.log || \
	   { tail -n 40 fuzz.log; exit 1; }; done; rm -f fuzz.log
	@printf '\n%s, one core of %s, load %s\n' "$$(date +%F)" "$$(sed -n 's/^model name.*: //p' /proc/cpuinfo | sort | uniq -c | \
	   sed 's/^ *\([0-9]*\) /\1 x /')" "$$(cut -d' ' -f1 /proc/loadavg)"

picture: $(STAMP) ## the picture of the README, from the demonstration's report (needs Chromium)
	python scripts/report_picture.py results/demo/report.html docs/report.webp

docs: $(STAMP) ## the documentation as a site, docs/_build/index.html
	python docs/tables.py
	sphinx-build -q -W --keep-going docs docs/_build

format: $(STAMP) ## bring the code into its format
	ruff check --fix
	ruff format
	snakefmt Snakefile workflow

lock: $(STAMP) ## write requirements.lock anew from pyproject.toml
	@{ echo '# Versions of everything that pyproject.toml asks for, extras workflow and dev included. Written by `make lock`.'; \
	   uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	     --python-version 3.11 --extra workflow --extra dev pyproject.toml; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@{ echo '# What the benchmark compares with, beside the project at the versions of ../requirements.lock. Written by `make lock`.'; \
	   uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	     --python-version 3.11 --constraint requirements.lock pyproject.toml benchmarks/requirements.in; \
	 } > requirements.lock.new
	@mv requirements.lock.new benchmarks/requirements.lock

clean-venv: ## remove the virtual environments
	rm -rf .venv benchmarks/.venv

# The first Python 3.11 or 3.12 that runs. A name alone proves nothing: version managers put names there that do not.
$(BIN)/python:
	@for python in python3.12 python3.11 python3 python; do \
	   if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then \
	     echo "making .venv with $$python"; exec $$python -m venv .venv; fi; \
	 done; \
	 echo 'error: no Python 3.11 or 3.12 found; install one, or put it on PATH' >&2; exit 1

# Where Python is told to keep nothing of what it compiles, every job and command would compile PyTorch anew.
COMPILED := $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)

$(STAMP): requirements.lock pyproject.toml | $(BIN)/python
	@[ -x $(BIN)/uv ] || { $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade; } >/dev/null
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet $(COMPILED) --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# The benchmark's own environment: what it compares with is no dependency of the project.
$(BENCH_STAMP): benchmarks/requirements.lock pyproject.toml | $(STAMP)
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python benchmarks/.venv
	$(BIN)/uv pip sync --quiet --python $(BENCH_BIN)/python benchmarks/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BENCH_BIN)/python --no-deps --editable .
	@touch $@
