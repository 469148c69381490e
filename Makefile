# Refilm: `make demo` and `make test` are all a newcomer needs; both set up .venv by themselves.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
FILM ?=
MINUTES ?=

# Everything comes from the lock in requirements/, by hash, but for two things. PyTorch's builds differ
# by machine: where its own index of CPU builds can be reached and no NVIDIA GPU is there, the small
# build comes from it; everywhere else the pin resolves as pip is set up. (What torch needs on a CPU is
# locked, and installed first; with the lock's hashes pip would refuse the CUDA of PyPI's build.)
LOCKS := requirements/build.txt requirements/service.txt requirements/trainer.txt
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
FROM_LOCK := $(PIP_INSTALL) --no-deps --require-hashes
TORCH := $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
CPU_INDEX := https://download.pytorch.org/whl/cpu

# The real Triton Inference Server, as a wheel. Without its requirements: they force numpy < 2, and
# only its server binary is used.
TRITON_WHEEL := nvidia-pytriton==0.7.0

# The machine that the lock is for: every version of it is checked there.
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 --no-emit-package torch --no-emit-package refilm \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

STUBS := client/refilm/v1
PROTOS := $(wildcard proto/refilm/v1/*.proto)
PACKAGES := film service trainer client/refilm

.PHONY: demo check lint test static soak format proto bench quality setup setup-dev lock clean help

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: setup ## reconstruct a film through 200 numbers a frame; FILM=path [MINUTES=m] for one of your own
	@$(BIN)/python examples/demo.py $(if $(FILM),"$(FILM)") $(if $(MINUTES),--minutes "$(MINUTES)")

check: static ## style, types, import rules and the unit tests: under two minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not process and not slow"

lint: static ## everything that is checked without running it: as in check, and the contract
	npx --no-install buf lint
	npx --no-install buf breaking --against proto/baseline.binpb

test: setup-dev ## run all tests: the unit tests, and those that start the real thing
	$(BIN)/python -m pytest -n 2 --dist loadfile

soak: setup-dev ## kill services and S3 servers 100 times in every way, counted; hours
	REFILM_KILLS=$${REFILM_KILLS:-100} $(BIN)/python -m pytest -m kills -s

static: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-dev ## format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

proto: setup-dev ## generate the stubs from proto/ and the synchronous client; refuses what breaks callers
	npx --no-install buf breaking --against proto/baseline.binpb
	npx --no-install buf build --exclude-source-info -o proto/baseline.binpb
	$(BIN)/python proto/generate.py
	$(BIN)/python client/tools/make_sync.py

bench: setup-dev ## run the benchmarks; each writes its table to benchmarks/results
	$(BIN)/python -m benchmarks

quality: setup-dev ## measure the models and write docs/quality.md; BUNNY= SINTEL= RUNS= EVERY=
	$(BIN)/python -m benchmarks.quality $(if $(BUNNY),--bunny "$(BUNNY)") \
		$(if $(SINTEL),--sintel "$(SINTEL)") $(if $(RUNS),--runs "$(RUNS)") $(if $(EVERY),--every $(EVERY))

setup: $(VENV)/.installed

setup-dev: $(VENV)/.installed-dev node_modules/.installed

lock: setup-dev ## lock what pyproject.toml asks for anew; UPGRADE=1 takes newer versions of the rest
	$(COMPILE) --group build -o requirements/build.txt
	$(COMPILE) pyproject.toml client/pyproject.toml --extra service --extra cli -c requirements/build.txt \
		-o requirements/service.txt
	$(COMPILE) pyproject.toml --extra trainer -c requirements/build.txt -c requirements/service.txt \
		-o requirements/trainer.txt
	$(COMPILE) pyproject.toml --extra dev $(LOCKS:%=-c %) -o requirements/dev.txt

$(VENV)/.installed: pyproject.toml client/pyproject.toml $(LOCKS) Makefile
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Refilm needs Python 3.11; point PYTHON at one: make PYTHON=/usr/bin/python3.11"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "This Python cannot make virtual environments: apt-get install python3.11-venv"; exit 1; }
	@$(FROM_LOCK) $(LOCKS:%=-r %)
	@index=$$(command -v nvidia-smi >/dev/null || $(PYTHON) deploy/reachable.py $(CPU_INDEX)/torch/ \
		&& echo "--extra-index-url $(CPU_INDEX)"); $(PIP_INSTALL) $(TORCH) $$index
	@$(PIP_INSTALL) --no-deps $(TRITON_WHEEL)
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e client -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements/dev.txt
	@echo "Setting up what tests and linters need ..."
	@$(FROM_LOCK) -r requirements/dev.txt
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
