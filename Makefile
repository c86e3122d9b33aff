# Each target does all the set-up itself; a fresh clone needs nothing but this file and a Python.
#
#   make demo     the 34-qubit circuit-cutting run over one Ray and one Dask pilot
#   make test     make check, then every test; those on a real Slurm where it can be had (root on Debian)
#   make test-slow   the tests that take minutes, with the extra `experiments` in .venv
#   make test-busy   every test twice, with four busy processes beside it
#   make test-oldest   the tests with the oldest versions that pyproject.toml allows, in .venv-oldest
#   make check    format, lint, types, layers, structure
#   make plugins  the contract suites, over the plugins here and the examples of the guides
#   make docs     the pages and the reference, in docs/_build/html
#   make linkcheck   the addresses in the pages
#   make miniapps   every mini-app with its laptop preset: seconds, and whether its result is right
#   make bench    ours and the bare engines side by side; writes docs/performance.md
#   make bench-quantum   circuits through every format and gate, error bars, gains of mitigation (an hour)
#   make bench-cluster   the same on a private Slurm (root)
#   make bench-chaos   150 random schedules of faults, of the day, on process, Ray and Dask pilots (an hour)
#   make bench-service   the service: load, kills, a million tasks, made-up requests, policies (half an hour)
#   make bench-peers   ours beside other systems, each in an environment of its own; writes docs/peers.md
#   make pyqpanda   an environment with Origin's own client, for tests/compat/test_pyqpanda.py
#   make newcomer   from README to an own circuit in an empty environment, with a mistake and Ctrl-C
#   make clean    removes what these targets made

# The tests start thousands of processes: what an outer program has switched off, byte code, is written.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
READY := .venv/.ready
BENCHMARKS := imports controller pilot_quantum dispatch latency threads callables chains granularity memory values balance notebooks circuits qpus cutting failures events planning simulator

RESULTS := benchmarks/results
CLUSTER_BENCHMARKS := cluster_scaling cluster_start cluster_dispatch cluster_mpi cluster_calls cluster_failures

.PHONY: demo test test-slow test-busy test-oldest check plugins docs linkcheck miniapps bench bench-quantum bench-cluster bench-chaos bench-peers bench-service pyqpanda newcomer clean

demo: $(READY)
	@$(BIN)/pilot run circuit-cutting --preset demo

test: check
	@scripts/setup_slurm
	@scripts/setup_postgres
	@$(BIN)/pytest --numprocesses 3 --dist loadfile --cov --cov-report term

newcomer: $(READY)
	@scripts/newcomer.sh --json $(RESULTS)/newcomer.json

pyqpanda: .peers/pyqpanda/bin/python

.peers/pyqpanda/bin/python:
	@python3 -m venv .peers/pyqpanda
	@.peers/pyqpanda/bin/pip install --quiet --disable-pip-version-check pyqpanda3==0.5.1 requests

test-slow: $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,experiments]'
	@$(BIN)/pytest -m slow tests/integration

test-busy: $(READY)
	@scripts/busy_test

test-oldest:
	@scripts/test_oldest

docs: $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

linkcheck: $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/linkcheck

check: $(READY)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python scripts/structure.py

plugins: $(READY)
	@scripts/setup_slurm
	@$(BIN)/python benchmarks/plugins.py --json $(RESULTS)/plugins.json

miniapps: $(READY)
	@$(BIN)/python benchmarks/miniapps.py --json $(RESULTS)/miniapps.json

bench: $(READY)
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --json $(RESULTS)/$$name.json; done
	@$(BIN)/python benchmarks/cutting.py --against addon --json $(RESULTS)/cutting.addon.json
	@$(BIN)/python benchmarks/memory.py --many 1000000 --forget --json $(RESULTS)/memory.forget.json
	@$(BIN)/python benchmarks/dispatch.py --varied --json $(RESULTS)/dispatch.varied.json
	@$(BIN)/python benchmarks/dispatch.py --map --json $(RESULTS)/dispatch.map.json
	@$(BIN)/python benchmarks/dispatch.py --executables --json $(RESULTS)/dispatch.executables.json
	-@$(BIN)/python benchmarks/latency.py --against pool --trace --json $(RESULTS)/latency.pool.json
	-@$(BIN)/python benchmarks/dashboard.py --json $(RESULTS)/dashboard.json
	@$(BIN)/python benchmarks/balance.py --optimum --json $(RESULTS)/balance.optimum.json
	@$(BIN)/python benchmarks/imports.py --without zmq sqlite3 threading --json $(RESULTS)/imports.scheduling.json
	@$(BIN)/python benchmarks/simulator.py --live --json $(RESULTS)/simulator.live.json
	@$(BIN)/python benchmarks/qpus.py --kill --json $(RESULTS)/qpus.kill.json
	@$(BIN)/python scripts/performance.py $(RESULTS)

bench-quantum: $(READY)
	-@for name in formats gates mitigation errors; do $(BIN)/python benchmarks/$$name.py --json $(RESULTS)/$$name.json; done
	-@$(BIN)/python benchmarks/circuits.py --ratios --json $(RESULTS)/circuits.ratios.json
	@$(BIN)/python scripts/performance.py $(RESULTS)

bench-cluster: $(READY)
	@scripts/setup_slurm
	@$(BIN)/python benchmarks/strangers.py --json $(RESULTS)/strangers.json
	@set -e; for name in $(CLUSTER_BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --json $(RESULTS)/$$name.json; done
	-@$(BIN)/python benchmarks/cluster_dispatch.py --executables --json $(RESULTS)/cluster_dispatch.executables.json
	@$(BIN)/python scripts/performance.py $(RESULTS)

bench-chaos: $(READY)
	@set -e; for one in process:099 ray:024 dask:024; do $(BIN)/python benchmarks/chaos.py --engine $${one%:*} \
	  --seeds $$(date +%Y%m%d)000-$$(date +%Y%m%d)$${one#*:} --json $(RESULTS)/chaos.$${one%:*}.json; done
	@$(BIN)/python scripts/performance.py $(RESULTS)

bench-peers: $(READY)
	@scripts/setup_slurm
	@$(BIN)/python benchmarks/peers.py --json $(RESULTS)/peers.json
	@$(BIN)/python scripts/peers.py $(RESULTS)/peers.json

bench-service: $(READY)
	@scripts/setup_postgres
	-@$(BIN)/python benchmarks/service.py load --json $(RESULTS)/service.load.json
	-@for store in sqlite postgresql; do $(BIN)/python benchmarks/service.py kill --store $$store --json $(RESULTS)/service.kill.$$store.json; done
	-@for store in sqlite postgresql; do $(BIN)/python benchmarks/service.py store --store $$store --json $(RESULTS)/service.store.$$store.json; done
	-@$(BIN)/python benchmarks/service.py fuzz --json $(RESULTS)/service.fuzz.json
	-@$(BIN)/python benchmarks/service.py policies --json $(RESULTS)/service.policies.json

clean:
	@rm -rf .venv .venv-oldest .peers build dist docs/_build .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@scripts/setup
