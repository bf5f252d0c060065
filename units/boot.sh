#!/bin/sh
# What mastodon-workers-boot.service and mastodon-workers-shutdown.service run. Plain sh and nothing of fleetd's: a
# host without a working fleetd boots its workers all the same (law 5).
set -u
export LC_ALL=C
list=/var/lib/mastodon-sidekiq/boot.list
links=/etc/systemd/system/mastodon-workers-boot.target.wants
seconds=120 # then the next one starts, and this one boots on

units() { # what is enabled: by fleetd-render in its order, then by hand
    { cat "$list"; ls "$links"; } 2>/dev/null |
        grep -E '^mastodon-sidekiq(@[1-9][0-9]{0,3}|-scheduler)\.service$' |
        awk '!seen[$0]++' |
        while read -r unit; do [ ! -L "$links/$unit" ] || echo "$unit"; done
}

case $1 in
start)
    at_once=$(sed -n 's/^at_once \([1-9][0-9]\{0,3\}\)$/\1/p' "$list" 2>/dev/null | head -n 1)
    # `systemctl start` ends when the worker is READY or has failed; what is masked or given up fails at once.
    # shellcheck disable=SC2016
    units | xargs -r -n 1 -P "${at_once:-4}" sh -c '
        timeout "$1" systemctl start "$2"
        [ $? -ne 124 ] || echo "<4>$2 is not up after $1 s and boots on; the next one starts."
    ' boot "$seconds"
    exit 0 # a worker that fails says so itself
    ;;
stopped)
    # Stopped in the middle, with the target: a start that was under way to systemd just then is taken back.
    [ "${EXIT_CODE:-exited}" != exited ] || exit 0
    [ "$(systemctl show --property=ActiveState --value mastodon-sidekiq.target)" = inactive ] || exit 0
    [ -z "$(systemctl list-jobs --no-legend mastodon-sidekiq.target)" ] || exit 0
    units | xargs -r systemctl stop --no-block
    ;;
wait-for-stops)
    systemctl list-jobs --no-legend 'mastodon-sidekiq@*.service' mastodon-sidekiq-scheduler.service |
        awk '$3 == "stop" { print $2 }' | xargs -r systemctl stop
    ;;
esac
