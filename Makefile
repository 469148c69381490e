# Refilm: `make demo` and `make test` are all a newcomer needs; both set up .venv by themselves.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
FILM ?=
MINUTES ?=

# Where PyTorch's own index of CPU builds can be reached and no NVIDIA GPU is there, take the small
# build from it; everywhere else the pin resolves as pip is set up.
CPU_INDEX := https://download.pytorch.org/whl/cpu
PIP_INSTALL = index=$$(command -v nvidia-smi >/dev/null || $(PYTHON) deploy/reachable.py $(CPU_INDEX)/torch/ \
	&& echo "--extra-index-url $(CPU_INDEX)"); $(BIN)/pip install --quiet --disable-pip-version-check $$index

# The real Triton Inference Server, as a wheel. Without its requirements: they force numpy < 2, and
# only its server binary is used.
TRITON_WHEEL := nvidia-pytriton==0.7.0

STUBS := client/refilm/v1
PROTOS := $(wildcard proto/refilm/v1/*.proto)
PACKAGES := film service trainer client/refilm

.PHONY: demo test soak lint format proto bench quality setup setup-dev clean help

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: setup ## reconstruct a film through 200 numbers a frame; FILM=path [MINUTES=m] for one of your own
	@$(BIN)/python examples/demo.py $(if $(FILM),"$(FILM)") $(if $(MINUTES),--minutes "$(MINUTES)")

test: setup-dev ## run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

soak: setup-dev ## kill services and S3 servers 100 times in every way, counted; hours
	REFILM_KILLS=$${REFILM_KILLS:-100} $(BIN)/python -m pytest -m kills -s

lint: setup-dev ## check style, types, the house's import rules and the contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	npx --no-install buf lint

format: setup-dev ## format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

proto: setup-dev ## generate the stubs from proto/ and the synchronous client
	$(BIN)/python proto/generate.py
	$(BIN)/python client/tools/make_sync.py

bench: setup-dev ## run the benchmarks; each writes its table to benchmarks/results
	$(BIN)/python -m benchmarks

quality: setup-dev ## measure the models and write docs/quality.md; BUNNY= SINTEL= RUNS= EVERY=
	$(BIN)/python -m benchmarks.quality $(if $(BUNNY),--bunny "$(BUNNY)") \
		$(if $(SINTEL),--sintel "$(SINTEL)") $(if $(RUNS),--runs "$(RUNS)") $(if $(EVERY),--every $(EVERY))

setup: $(VENV)/.installed

setup-dev: $(VENV)/.installed-dev node_modules/.installed

$(VENV)/.installed: pyproject.toml client/pyproject.toml Makefile
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Refilm needs Python 3.11; point PYTHON at one: make PYTHON=/usr/bin/python3.11"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "This Python cannot make virtual environments: apt-get install python3.11-venv"; exit 1; }
	@$(PIP_INSTALL) -e "client[cli]" -e ".[service,trainer]"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(TRITON_WHEEL)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Setting up what tests and linters need ..."
	@$(PIP_INSTALL) -e "client[cli]" -e ".[service,trainer,dev]"
	@touch $@

# The contract's linter and the Node example come from npm; without npm `make test` skips what needs
# it. The linter is pinned in package.json, without a lock file: not every registry has its builds
# for other systems, and npm ci wants them all.
node_modules/.installed: package.json examples/node/package.json examples/node/package-lock.json
	@if command -v npm >/dev/null; then \
		npm install --no-package-lock --no-audit --no-fund --loglevel=error >/dev/null \
		&& npm ci --prefix examples/node --no-audit --no-fund --loglevel=error >/dev/null && touch $@; \
	else echo "npm is not installed: make lint cannot check the contract, the Node example is not tested"; fi

clean: ## remove what was installed (.venv, node_modules); films and models in .refilm stay
	rm -rf $(VENV) node_modules examples/node/node_modules
