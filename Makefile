# Each target creates the environment that it needs: .venv from constraints.txt, or separate ones for client libraries.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
CLIENTS := .venv-clients
STUDIO := .venv-label-studio
SERVE ?= 1
# One thread per test process, because several processes share the machine; what they all import stays compiled.
TEST_ENV := OMP_NUM_THREADS=1 NO_ALBUMENTATIONS_UPDATE=1 PYTHONDONTWRITEBYTECODE=
# Two processes take tests one by one (loadgroup); in each, the tests that need Ray share one cluster.
PYTEST := $(TEST_ENV) $(RUN) -m pytest -q -n 2 --dist loadgroup --no-loadscope-reorder

.PHONY: help demo test test-quick test-full test-clients test-label-studio check docs format serve bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 13), "Python 3.11 or 3.12 is needed: make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt ".[serve,train,dev]"
	touch $(STAMP)

demo: $(STAMP)  ## evaluate, fine-tune, compare, register and serve in a few minutes (SERVE=0: stop at the end)
	$(RUN) -m jobs.demo $(if $(filter 0,$(SERVE)),--no-serve)

test: $(STAMP)  ## all tests except the slow ones, as in CI
	$(PYTEST) -m "not slow" --durations=10

test-quick: $(STAMP)  ## tests without Ray, network contracts and parity: two minutes
	$(PYTEST) -m "not slow and not ray and not networks" --ignore tests/parity --durations=5

test-full: $(STAMP)  ## all tests, also those that kill processes, use a browser or real clients
	$(PYTEST) --durations=20
	$(MAKE) test-clients test-label-studio

$(CLIENTS)/.installed: tests/clients/requirements.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --requirement tests/clients/requirements.txt
	touch $@

$(STUDIO)/.installed: tests/clients/label-studio.txt
	$(PYTHON) -m venv $(STUDIO)
	$(STUDIO)/bin/python -m pip install --quiet --requirement tests/clients/label-studio.txt
	touch $@

# --confcutdir: tests/conftest.py needs torch and pytest plugins that the clients' environment does not have.
test-clients: $(STAMP) $(CLIENTS)/.installed  ## test the client libraries of Label Studio and CVAT against the server
	$(TEST_ENV) $(CLIENTS)/bin/python -m pytest -q --confcutdir tests/clients tests/clients

test-label-studio: $(STAMP) $(STUDIO)/.installed  ## test with a real Label Studio, from project to export
	$(TEST_ENV) $(STUDIO)/bin/python -m tests.clients.label_studio_end_to_end

check: $(STAMP)  ## check lint, formatting, types and words
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright
	$(RUN) -m tools.words

docs: $(STAMP)  ## build the documentation as a site, build/site/index.html; a dead link is an error
	$(RUN) -m sphinx --quiet --fresh-env --fail-on-warning --keep-going -c docs . build/site

format: $(STAMP)  ## format the code and sort imports
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

serve: $(STAMP)  ## serve maskwright:lite_s at http://127.0.0.1:8000 (CHECKPOINT=DIR: another model)
	$(RUN) -m serve $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) $(if $(wildcard runs/demo/examples),--examples runs/demo/examples)

bench: $(STAMP)  ## measure the training stream (figures are in benchmarks/RESULTS.md)
	$(RUN) -m benchmarks.data

clean:  ## remove caches, but not runs
	rm -rf .pytest_cache .ruff_cache .hypothesis build maskwright.egg-info
	find . -name __pycache__ -not -path './.venv*' -type d -exec rm -rf {} +
