# Every target works as the first command in a fresh clone.
VENV   := .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CORE   := $(VENV)/.core
STAMP  := $(VENV)/.installed

.PHONY: demo test check package learn faults compiled browser docs ray trackio bench clean

$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e .
	touch $(CORE)

$(STAMP): $(CORE)
	$(PIP) -e '.[dev]'
	touch $(STAMP)

demo: $(CORE)  ## train PPO + LSTM on CartPole without velocities, evaluate, plot
	$(BIN)/python -m retain.cli.demo

test: $(STAMP)  ## the fast, deterministic tests
	$(BIN)/python -m pytest -n 2

check: $(STAMP)  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

package: $(CORE)  ## wheel and source archive: built, checked, installed into an empty environment and tried
	$(PIP) build twine
	rm -rf dist
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv --clear $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(VENV)-wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	$(VENV)-wheel/bin/python tests/packaging/try_wheel.py

learn: $(STAMP)  ## the slow learning tests, several seeds each
	$(BIN)/python -m pytest -m learning -n 2 tests/learning

faults: $(STAMP)  ## kill and starve runs: prints how many of 100 kills ended bit-identical
	$(BIN)/python tests/faults/drive.py --kills 100
	$(BIN)/python -m pytest -m faults tests/faults

compiled: $(STAMP)  ## gradient steps under torch.compile: the numbers, other processes, resuming
	$(BIN)/python -m pytest -m compiled tests/algos/test_compiled.py

browser: $(STAMP)  ## the report page in a real browser, Chromium, which Debian's apt installs
	$(PIP) playwright
	@command -v chromium > /dev/null || { test "$$(id -u)" = 0 \
		&& apt-get -qq update && apt-get -qq install -y chromium > /dev/null; } \
		|| { echo "make browser needs chromium; as root: apt-get install chromium" >&2; exit 1; }
	$(BIN)/python -m pytest -m browser tests/study/report

docs: $(CORE)  ## the documentation's site, built strictly: open site/index.html
	$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

ray: $(STAMP)  ## clusters of Ray on this machine, whose nodes and actors are killed: minutes
	$(PIP) -e '.[ray]'
	$(BIN)/python -m pytest -m ray tests/envs/test_ray_workers.py tests/study/test_ray_runs.py

trackio:  ## the Trackio callback, in an environment of its own: it wants another pillow
	$(PYTHON) -m venv $(VENV)-trackio
	$(VENV)-trackio/bin/python -m pip install --quiet torch -c constraints.txt
	$(VENV)-trackio/bin/python -m pip install --quiet -e '.[trackio]' pytest
	$(VENV)-trackio/bin/python -m pytest -m trackio tests/train/test_trackers.py

bench: $(STAMP)  ## throughput against Stable-Baselines3, on- and off-policy, and the fused unroll
	$(PIP) -e '.[dev,bench]'
	$(BIN)/python benchmarks/unroll.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/offpolicy.py

clean:
	rm -rf $(VENV) $(VENV)-wheel dist runs site
