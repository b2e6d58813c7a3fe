# `make` alone lists what there is. Everything starts from a bare Debian 12: bootstrap installs what is missing.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BAZEL ?= bazel
# Local additions, such as --output_base, and limits for small machines.
BAZEL_STARTUP ?=
BAZEL_FLAGS ?=
bazel_build = $(BAZEL) $(BAZEL_STARTUP) build $(BAZEL_FLAGS)
bazel_test = $(BAZEL) $(BAZEL_STARTUP) test $(BAZEL_FLAGS)
export BAZEL BAZEL_STARTUP BAZEL_FLAGS

PYTHON := .venv/bin/python
PROGRAMS := //daemons/head:gcs //daemons/raylet:rayletd //daemons/store:plasma-store //daemons/cli:raylet
BINARIES := daemons/head/gcs daemons/raylet/rayletd daemons/store/plasma-store daemons/cli/raylet
# What .venv and its like are made for besides the client: --tests, --ray.
PYTHON_FOR ?=
SIM_SEEDS ?= 300
FUZZ_SECONDS ?= 30

.PHONY: help bootstrap proto build programs python test test-matrix demo bench sim sim-mutants asan tsan fuzz clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F"|" '{ printf "%-20s %s\n", $$1, $$2 }'

bootstrap: ## install what is missing: Debian packages and .venv
	@deploy/bootstrap.sh

proto: bootstrap ## generate the Python side of protocol/wire
	@deploy/generate_python_protocol.sh

# Compiling keeps the processors busy and installing the network, so both go on at once.
build: ## build the four programs into bin/
	@deploy/bootstrap.sh --packages
	@$(MAKE) --no-print-directory -j2 programs python
	@echo "built: bin/raylet (see bin/raylet --help); .venv/bin/python -c 'import ray' works here"

programs:
	$(bazel_build) $(PROGRAMS)
	@mkdir -p bin
	@for binary in $(BINARIES); do \
	  cmp -s bazel-bin/$$binary bin/$$(basename $$binary) || \
	    install -m 755 bazel-bin/$$binary bin/$$(basename $$binary) || exit 1; \
	done

python:
	@deploy/bootstrap.sh $(PYTHON_FOR)
	@deploy/generate_python_protocol.sh

test: ## every test of every layer (what CI runs)
	@$(MAKE) --no-print-directory build PYTHON_FOR=--tests
	@$(PYTHON) deploy/run_tests.py

test-matrix: build ## the client's tests and Dask's own on every supported Dask and Python; MATRIX_FLAGS narrows it
	@$(PYTHON) tests/matrix/run.py --client $(MATRIX_FLAGS)

demo: build ## a real node runs real Dask work on real data, checked and timed beside Dask's own schedulers
	@$(PYTHON) deploy/demo/demo.py

bench: ## speed beside Dask's schedulers and the Ray wheel; the table, and one JSON file a run in build/bench/
	@$(MAKE) --no-print-directory build PYTHON_FOR="--tests --ray"
	@$(PYTHON) tests/bench/bench.py $(BENCH_FLAGS)
	$(bazel_build) //tests/bench:core_bench
	@bazel-bin/tests/bench/core_bench

sim: bootstrap ## the simulator over SIM_SEEDS (300) seeds of one-node clusters
	$(bazel_build) //tests/sim:sim
	bazel-bin/tests/sim/sim --seeds 1..$(SIM_SEEDS)

sim-mutants: bootstrap ## eleven planted bugs, each of which the simulator must find
	python3 tests/sim/mutants.py

asan: bootstrap ## the C++ tests under AddressSanitizer and UBSan
	$(bazel_test) --config=asan //...

tsan: bootstrap ## the C++ tests under ThreadSanitizer
	$(bazel_test) --config=tsan //...

fuzz: ## every decoder of outside bytes, FUZZ_SECONDS (30) each
	@deploy/bootstrap.sh --fuzz
	@tests/fuzz/run.sh $(FUZZ_SECONDS)

clean: ## remove what was built (not .venv)
	@command -v $(BAZEL) >/dev/null && $(BAZEL) $(BAZEL_STARTUP) clean || true
	rm -rf bin build client/ray/_wire client/build client/*.egg-info client/ray.egg-info .pytest_cache
	find client tests deploy -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-oldest .venv-ray .venv-matrix-*
