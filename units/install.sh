#!/bin/sh
# Installs fleetd's units, polkit rule, bus policy, user and directories: units/install.sh [DESTDIR]
# With a DESTDIR the files are only copied there; without one (or with /) they are also activated. Starts nothing and
# touches no worker. The programs themselves belong in /opt/fleetd/bin (see the README).
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${1:-}
root=${root%/}

put() { # put FOLDER FILE [NAME]: an existing directory keeps its owner and mode
    [ -d "$root$1" ] || install -d -m 0755 "$root$1"
    install -m 0644 "$here/$2" "$root$1/${3:-$(basename -- "$2")}"
}

if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    echo "install.sh: run as root: it writes to /etc and /usr/local (or name a DESTDIR)." >&2
    exit 1
fi

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
put /usr/local/share/fleetd ../config.example.toml
# Read only where needrestart is installed; for one that is installed later it is there already.
put /etc/needrestart/conf.d needrestart.conf 50-fleetd.conf
# An earlier fleetd-render wrote it; it would keep fleetd from its settings until a reboot.
rm -f "$root/run/systemd/system/fleetd.service.d/50-env-file.conf"

[ -z "$root" ] || exit 0

systemd-sysusers fleetd.conf
systemd-tmpfiles --create fleetd.conf
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # dbus-daemon watches its directories too; this makes sure that the new policy is loaded before the first start.
    busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig
fi
for unit in mastodon-sidekiq@.service mastodon-sidekiq-scheduler.service; do
    for folder in /etc/systemd/system /run/systemd/system; do
        [ -f "$folder/$unit" ] || continue
        # A copy of ours with changes is fine; what it must not change is for check-config to say.
        grep -q '^EnvironmentFile=-\{0,1\}/var/lib/mastodon-sidekiq/' "$folder/$unit" && continue
        stopped=$(echo "'$unit'" | sed 's/@.service/@*/')
        cat >&2 <<END
install.sh: $folder/$unit is not fleetd's and hides the one just installed: nothing is started, ended or replaced by it.
To use fleetd's:
  find /etc/systemd/system -lname '$folder/$unit' -not -path '*/mastodon-workers-boot.target.wants/*' -delete
  mv $folder/$unit /root/
  systemctl daemon-reload
  systemctl restart fleetd-render
  systemctl try-restart $stopped
END
        break
    done
done
echo "Installed. Next: write /etc/fleetd/fleetd.toml (\`fleetctl init\`, or from /usr/local/share/fleetd/config.example.toml), then"
echo "  fleetctl check-config"
echo "  systemctl disable --now mastodon-sidekiq   # if the stock unit runs here: it serves every queue"
echo "  systemctl start fleetd-render"
echo "  systemctl enable --now fleetd"
echo "  systemctl enable --now mastodon-sidekiq.target"
