# Works on a fresh machine with Python, make and a package registry: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The edge is what imports Prefect; every other module is the core, whose coverage has a floor.
EDGE = $(shell grep -rlE --include='*.py' '^ *(from|import) prefect([. ]|$$)' prefect_topaz | paste -sd, -)
PROVIDER ?= oxen
DESTINATION ?= demo/
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test check matrix mutants bench constraints clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with the versions of constraints.txt (the others do it by themselves)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "==> Setting up $(VENV) with $$($(PYTHON) --version) and the versions of constraints.txt (a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt 'pip>=25.3'
	@$(BIN)/python -m pip install -q -c constraints.txt --build-constraint constraints.txt -e '.[s3]' --group dev
	@touch $@

demo: $(READY) ## Upscale a clip against the local sandbox [SOURCE=clip.mp4 PROVIDER=oxen|evolink DESTINATION=demo/]
	@echo "==> Running the demo: provider $(PROVIDER), destination $(DESTINATION)"
	@$(BIN)/python -m prefect_topaz.demo $(if $(SOURCE),--source '$(SOURCE)') --provider '$(PROVIDER)' --destination '$(DESTINATION)'

test: $(READY) ## Run all tests; the core's coverage with branches must reach 95 %
	@echo "==> Testing the core: dialects, engine, storage, sandbox (no Prefect)" && $(BIN)/python -m pytest tests -n auto --dist loadfile --ignore=tests/prefect --cov --cov-report=
	@echo "==> Testing the edge: blocks, tasks, flows, the Prefect UI" && $(BIN)/python -m pytest tests/prefect -n auto --maxprocesses 4 --dist loadfile --cov --cov-append --cov-report= || \
		(echo "==> Real processes on a busy machine: what failed is tried once more, alone" && \
		$(BIN)/python -m pytest tests/prefect --last-failed --last-failed-no-failures none --cov --cov-append --cov-report=)
	@echo "==> Coverage of the edge" && $(BIN)/python -m coverage report --include='$(EDGE)'
	@echo "==> Coverage of the core (at least 95 %)" && $(BIN)/python -m coverage report --omit='$(EDGE)' --fail-under=95

check: $(READY) ## Lint, check the format, the types and the direction of imports
	@echo "==> ruff check" && $(BIN)/ruff check .
	@echo "==> ruff format --check" && $(BIN)/ruff format --check .
	@echo "==> mypy" && $(BIN)/mypy
	@echo "==> import-linter" && $(BIN)/lint-imports

matrix: $(READY) ## Kill the client at every effect and print what became of the purchase [ARGS=--help]
	@$(BIN)/python -m tests.crash $(ARGS)
mutants: $(READY) ## Make the mistakes that would cost money, and see that a test notices each [ARGS=--help]
	@$(BIN)/python -m tests.mutants $(ARGS)

bench: $(READY) ## Measure imports, the speed of storing, its memory, and verification [ARGS=--full takes an hour]
	@echo "==> Measuring imports" && $(BIN)/python benchmarks/import_time.py
	@echo "==> Measuring how fast results are stored" && $(BIN)/python benchmarks/store.py $(ARGS)
	@echo "==> Measuring the memory that this takes" && $(BIN)/python benchmarks/memory.py $(ARGS)
	@echo "==> Measuring the price of verification" && $(BIN)/python benchmarks/verify.py $(if $(ARGS),,--seconds 2 --runs 1)
	$(if $(ARGS),@echo "==> Comparing good and wrong results with their sources" && $(BIN)/python benchmarks/fidelity.py --seconds 5)

constraints: ## Resolve all dependencies anew, for every supported Python, into constraints.txt
	@echo "==> Resolving dependencies into constraints.txt"
	@$(PYTHON) -m venv build/resolver && build/resolver/bin/python -m pip install -q uv
	@build/resolver/bin/uv pip compile -q --no-config --system-certs --upgrade --universal --python-version 3.10 --no-header --no-annotate \
		--extra s3 --group dev pyproject.toml -o build/resolved.txt
	@sed -n '/^#/p' constraints.txt | cat - build/resolved.txt > build/constraints.txt && mv build/constraints.txt constraints.txt

clean: ## Remove the environment and all caches; videos in demo/ stay
	rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
