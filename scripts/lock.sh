#!/bin/sh
# Renews requirements.lock and requirements-dev.lock: the newest versions that pyproject.toml allows, with the hashes of
# all their files, for every Python and machine that it allows. `lock.sh --no-upgrade` only adds what pyproject.toml needs
# and the locks lack. Look at the difference before you commit it.
set -eu
cd "$(dirname "$0")/.."
upgrade=--upgrade
[ "${1:-}" != --no-upgrade ] || upgrade=

# The build backend belongs to what is installed: fleetd itself is built without asking an index.
backend="$(/usr/bin/python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')"

compile() { # compile OUTPUT [OPTION]...
    output=$1
    shift
    printf '%s\n' "$backend" | .venv/bin/uv --quiet pip compile --universal --python-version 3.11 --no-build \
        --generate-hashes --no-annotate --custom-compile-command "make lock" $upgrade --output-file "$output" \
        "$@" pyproject.toml - > /dev/null
}
compile requirements.lock
compile requirements-dev.lock --extra dev --constraint requirements.lock
