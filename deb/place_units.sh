#!/bin/sh
# Puts what units/install.sh installs where Debian wants it, below STAGE: deb/place_units.sh STAGE
# units/ stays the only source of the units and units/install.sh the only list of what is installed; only paths change.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
stage=$1

FLEETD_BIN=/usr/lib/fleetd/bin "$here/../units/install.sh" "$stage"

move() { # move FROM TO
    mkdir -p "$stage$2"
    cp -R "$stage$1/." "$stage$2/"
    rm -R "${stage:?}$1"
}
move /usr/local/lib/systemd/system /usr/lib/systemd/system
move /usr/local/lib/mastodon-workers /usr/lib/mastodon-workers
move /usr/local/lib/sysusers.d /usr/lib/sysusers.d
move /usr/local/lib/tmpfiles.d /usr/lib/tmpfiles.d
move /usr/local/share/fleetd /usr/share/fleetd
move /etc/polkit-1/rules.d /usr/share/polkit-1/rules.d
move /etc/dbus-1/system.d /usr/share/dbus-1/system.d
find "$stage/usr/local" "$stage/etc" -depth -type d -empty -delete

find "$stage/usr/lib/systemd" "$stage/usr/share/dbus-1" -type f -exec sed -i \
    -e 's#/usr/local/lib/#/usr/lib/#g' \
    -e 's#/etc/dbus-1/system.d/#/usr/share/dbus-1/system.d/#g' {} +
