# Every command sets itself up: it needs only Python >= 3.11 and make.
PYTHON ?= python3
SERVICE := {{cookiecutter.project_slug}}
# `=` and not `:=`: looked up when a command needs it, so that `make help` fetches nothing.
UV = $(or $(shell $(PYTHON) "$(SERVICE)/development/bootstrap.py" --into .),$(error uv is missing, see above))
RUN = "$(UV)" run --quiet --locked --python "$(PYTHON)"
# The service folder is copied as it lies: whatever runs there keeps its files out of it.
CACHE := $(CURDIR)/.cache
IN_SERVICE = cd "$(SERVICE)" && UV_PROJECT_ENVIRONMENT="$(CACHE)/venv" RUFF_CACHE_DIR="$(CACHE)/ruff" \
	MYPY_CACHE_DIR="$(CACHE)/mypy" PYTHONPYCACHEPREFIX="$(CACHE)/pycache" $(RUN)
WORKFLOWS = .github/workflows/*.yml "$(SERVICE)"/.github/workflows/*.yml

DEST ?=
BEGAN := $(shell date +%s)

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-cost bench-compare bench-conformance site check fix bake

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

demo: ## Generate a service, start all of it, print addresses and a login (DEST=dir keeps it)
	@exec $(RUN) --no-dev python -m demo $(if $(DEST),"$(DEST)")

test: ## Run all tests: hooks, a generated service, faults, attacks, Compose, systemd, pods
	@# Three side by side on two cores, as they wait a lot; but those that measure time or loads have
	@# the machine alone.
	@$(RUN) pytest --numprocesses 3 --no-loadscope-reorder -m "not alone"
	@$(RUN) pytest -m alone
	@echo "make test took $$(($$(date +%s) - $(BEGAN))) s, setup included."

bench: ## Generate a service and compare its cost with a bare FastAPI route (about 3 minutes)
	@$(RUN) --no-dev python -m bench $(ARGS)

bench-cost: ## Measure what logs, metrics, ids and traces cost a request (about 2 minutes)
	@$(RUN) --no-dev python -m bench --observability $(ARGS)

bench-compare: ## Put servers beside each other: NAME=workers (pool, waits, nginx, servers, ...)
	@$(RUN) --no-dev python -m bench --compare "$(NAME)" $(ARGS)

bench-conformance: ## Put six servers to ten trials: reload, drain, kill, stall, ... (10 minutes)
	@$(RUN) --no-dev python -m bench --conformance $(ARGS)

site: ## Build the pages as a site in .cache/site/html, with search and the calculator
	@$(RUN) python -m website

check: ## Check everything, change nothing
	@"$(UV)" lock --quiet --check
	@"$(UV)" lock --quiet --check --directory "$(SERVICE)"
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) deptry --ignore DEP002,DEP004 bench demo hooks tests website
	@$(RUN) yamllint --strict $(WORKFLOWS)
	@$(RUN) actionlint $(WORKFLOWS)
	@$(RUN) zizmor --offline --quiet $(WORKFLOWS)
	@$(IN_SERVICE) ruff check .
	@$(IN_SERVICE) ruff format --check .
	@$(IN_SERVICE) mypy .
	@$(IN_SERVICE) deptry .
	@$(IN_SERVICE) deptry --exclude '^$$' --ignore DEP002,DEP004 tests
	@$(RUN) python -m tests.size

fix: ## Mend what can be mended: imports, format
	@# What cannot be mended must not keep the rest from being formatted; `make check` names it.
	@$(RUN) ruff check --fix-only --quiet .
	@$(RUN) ruff format .
	@$(IN_SERVICE) ruff check --fix-only --quiet .
	@$(IN_SERVICE) ruff format .

bake: ## Generate a service into DEST (default: build); asks its questions in a terminal
	@$(RUN) --no-dev cookiecutter $$([ -t 0 ] || echo --no-input) --output-dir "$(or $(DEST),build)" .
