#!/bin/sh
# Copies fleetd's units, polkit rule, bus policy and the like below a directory: units/install.sh DESTDIR
# Which file goes where is written here only. `fleetctl install-units` compares the result with a host and activates it.
# FLEETD_BIN: where the programs are, /opt/fleetd/bin if it is not set.
set -eu
umask 022

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${1:?units/install.sh DESTDIR; to install on this host: fleetctl install-units}
root=${root%/}
programs=${FLEETD_BIN:-/opt/fleetd/bin}
example=$here/config.example.toml
[ -e "$example" ] || example=$here/../config.example.toml

put() { # put FOLDER FILE [NAME]: an existing directory keeps its owner and mode
    [ -d "$root$1" ] || install -d -m 0755 "$root$1"
    file=$root$1/${3:-$(basename -- "$2")}
    sed "s|/opt/fleetd/bin/|$programs/|g" "$here/$2" > "$file.new"
    chmod 0644 "$file.new"
    mv "$file.new" "$file"
}

for unit in fleetd.service fleetd-render.service fleetd-render.path \
    fleetd-stamp.service fleetd-stamp-again.service fleetd-stamp.path fleetd-stamp-git.path fleetd-stamp.timer \
    mastodon-sidekiq.target mastodon-workers-boot.target mastodon-workers-boot.service \
    mastodon-workers-shutdown.service mastodon-sidekiq@.service mastodon-sidekiq-scheduler.service; do
    put /usr/local/lib/systemd/system "$unit"
done
put /usr/local/lib/systemd/system/mastodon-sidekiq.service.d mastodon-sidekiq.stop.conf 50-fleetd.conf
put /usr/local/lib/mastodon-workers boot.sh
put /etc/polkit-1/rules.d 50-fleetd.rules
put /etc/dbus-1/system.d org.fleetd1.conf
put /usr/local/lib/sysusers.d sysusers.conf fleetd.conf
put /usr/local/lib/tmpfiles.d tmpfiles.conf fleetd.conf
[ -d "$root/usr/local/share/fleetd" ] || install -d -m 0755 "$root/usr/local/share/fleetd"
install -m 0644 "$example" "$root/usr/local/share/fleetd/config.example.toml"
# Read only where needrestart is installed; for one that is installed later it is there already.
put /etc/needrestart/conf.d needrestart.conf 50-fleetd.conf
