"""The Debian package: what `make deb` builds, and what its maintainer scripts do. How and why: docs/decisions/0021.

`build.sh` makes the package for the release it runs in; `in_root.sh` runs it in a root of another release. The units
are those of units/, with other paths (`place_units.sh`). Man pages, completion and the licences are made here from
fleetctl, from config.example.toml and from the bundled packages' own metadata. Nothing of this runs on a worker VM but
`maintainer/` and `remove-make-install`.
"""
