# Each target does all the set-up itself; a fresh clone needs nothing but this file and a Python.
#
#   make demo     the 34-qubit circuit-cutting run over one Ray and one Dask pilot
#   make test     make check, then every test; those on a real Slurm where it can be had (root on Debian)
#   make test-slow   the tests that take minutes, with the extra `experiments` in .venv
#   make test-busy   every test twice, with four busy processes beside it
#   make check    format, lint, types, layers
#   make bench    ours and the bare engines side by side, tables in runs/bench/
#   make bench-cluster   the same on a private Slurm (root)
#   make clean    removes what these targets made

BIN := .venv/bin
READY := .venv/.ready
BENCHMARKS := imports dispatch latency threads callables chains granularity memory balance circuits qpus cutting failures

CLUSTER_BENCHMARKS := cluster_start cluster_dispatch cluster_mpi cluster_calls cluster_failures

.PHONY: demo test test-slow test-busy check bench bench-cluster clean

demo: $(READY)
	@$(BIN)/pilot run circuit-cutting --output runs/demo

test: check
	@scripts/setup_slurm
	@$(BIN)/pytest --numprocesses 3 --dist loadfile

test-slow: $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,experiments]'
	@$(BIN)/pytest -m slow tests/integration

test-busy: $(READY)
	@scripts/busy_test

check: $(READY)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(READY)
	@mkdir -p runs/bench
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --json runs/bench/$$name.json; done

bench-cluster: $(READY)
	@scripts/setup_slurm
	@mkdir -p runs/bench
	@set -e; for name in $(CLUSTER_BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --json runs/bench/$$name.json; done

clean:
	@rm -rf .venv build dist runs/demo runs/bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@scripts/setup
