#!/bin/sh
# make release: checks, then a tag, then everything that is published, with checksums, in dist/. Pushes nothing.
set -eu
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*" >&2; }
stop() { say "fleetd: $*"; exit 1; }

python=.venv/bin/python
version=$($python -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
tag=v$version
[ -z "$(git status --porcelain)" ] || stop "there are changes that are not committed: git status"
! git rev-parse -q --verify "refs/tags/$tag" >/dev/null || stop "$tag is there already: raise the version in pyproject.toml"
grep -q "^## $version (" CHANGELOG.md || stop "CHANGELOG.md has no section '## $version (DATE)': name what is new under it"
! grep -q "^## Unreleased" CHANGELOG.md || stop "CHANGELOG.md still has a section 'Unreleased'"
[ "$($python -c 'import fleetd; print(fleetd.__version__)')" = "$version" ] || stop "fleetd.__version__ is not $version"
make test

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf dist
mkdir dist
$python -c 'from flit_core import buildapi; print(buildapi.build_wheel("dist"), buildapi.build_sdist("dist"))'
make deb RELEASE="${RELEASE:-bookworm trixie noble}"
(cd dist && sha256sum -- *.whl *.tar.gz *.deb > SHA256SUMS)
git tag -a -m "fleetd $version" "$tag"
say "fleetd: $tag is tagged here; dist/ has what to publish:"
cat dist/SHA256SUMS
say "fleetd: git push origin main $tag"
