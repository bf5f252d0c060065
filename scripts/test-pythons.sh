#!/bin/sh
# The tests that need no virtual hosts, on each Python that is named and here: scripts/test-pythons.sh python3.12 python3.13
# Each gets an environment of its own beside .venv, by the hashes of requirements-dev.lock.
set -eu
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*" >&2; }

tried=0
for python in "$@"; do
    if ! version=$("$python" -I -c 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
        say "fleetd: $python is not here: left out"
        continue
    fi
    say "fleetd: the tests on Python $version"
    place=.venv-$version
    "$python" -I -m venv --clear "$place"
    pip="$place/bin/python -I -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore"
    $pip --require-hashes --only-binary :all: -r requirements-dev.lock >&2
    $pip --no-deps --no-index --no-build-isolation --editable . >&2
    PYTHONDONTWRITEBYTECODE=1 "$place/bin/python" -m pytest -p no:cacheprovider -m "not long and not lab" -n 2 --dist loadfile
    tried=$((tried + 1))
done
[ "$tried" -gt 0 ] || { say "fleetd: none of $* is here"; exit 1; }
