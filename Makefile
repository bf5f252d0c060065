# make test   everything: lint, types, import contracts, unit, property and lab tests (asks for sudo)
# make demo   fleetd with real Redis, Postgres, systemd and Sidekiq, four minutes (asks for sudo)
# make help   all targets

.PHONY: help test lint test-unit test-long test-pythons demo install deb deb-try release prepare venv lock clean
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
SUDO := $(shell [ "$$(id -u)" -eq 0 ] || echo sudo)
# Tests run as root must not leave root's files in the checkout.
PYTEST := $(SUDO) env PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m pytest -p no:cacheprovider

help:
	@echo "make test       everything: lint, types, import contracts, unit, property and lab tests"
	@echo "make demo       watch fleetd handle a surge, with real Redis, Postgres, systemd and Sidekiq (ARGS=--keep: leave it running)"
	@echo "make demo ARGS=--hosts  watch three hosts as one fleet, one of which loses its power in the surge"
	@echo "make venv       only .venv, to run single tests; no sudo"
	@echo "make lint       ruff, mypy --strict, import-linter"
	@echo "make test-unit  the tests that need no virtual hosts, in a few minutes, without sudo"
	@echo "make test-pythons  the same on python3.12 and python3.13, if they are here (PYTHONS=...)"
	@echo "make test-long  the long campaigns, hours; figures: benchmarks/. Faults of many hosts that passed are not played again"
	@echo "make release    checks, a tag, and wheel, sdist and packages with checksums in dist/"
	@echo "make lock       renew requirements*.lock: the newest versions that pyproject.toml allows, with their hashes"
	@echo "make deb        dist/fleetd_VERSION_ARCH.deb for this release, or for RELEASE=bookworm, trixie or noble (asks for sudo)"
	@echo "make deb-try    install, boot, remove and purge the package of RELEASE=… in a root of that release (asks for sudo)"
	@echo "make install    install on this worker VM: /opt/fleetd, units, polkit rule, bus policy (root)"

prepare:
	@scripts/prepare.sh lab $(MAKECMDGOALS)

venv:
	@scripts/prepare.sh python $(MAKECMDGOALS)

test: prepare lint
	@$(PYTEST) -m "not long" -n 3 --dist loadfile --no-loadscope-reorder

test-unit: venv lint
	@$(PYTHON) -m pytest -m "not long and not lab" -n 2 --dist loadfile

test-long: prepare
	@$(PYTEST) -m long -n 2 --dist loadfile -rP

PYTHONS := python3.12 python3.13
test-pythons:
	@scripts/test-pythons.sh $(PYTHONS)

lint: venv
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache

demo: prepare
	@$(SUDO) env PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m lab.demo $(ARGS)

install:
	@scripts/install.sh

# One package for each release. Without RELEASE: for this machine's own, with its own Python and no root.
deb:
	@scripts/prepare.sh deb $(RELEASE)
	@if [ -z "$(RELEASE)" ]; then deb/build.sh dist; fi
	@for release in $(RELEASE); do $(SUDO) env MIRROR="$(MIRROR)" DEBFULLNAME="$(DEBFULLNAME)" DEBEMAIL="$(DEBEMAIL)" deb/in_root.sh $$release dist || exit 1; done
	@for package in dist/fleetd_*.deb; do lintian --allow-root --fail-on error,warning $$package || exit 1; done

deb-try:
	@for release in $(RELEASE); do $(SUDO) deb/try_in_root.sh $$release || exit 1; done

lock: venv
	@scripts/lock.sh

release: venv
	@scripts/release.sh

clean:
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
