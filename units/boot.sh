#!/bin/sh
# Run by mastodon-workers-boot.service and mastodon-workers-shutdown.service. Plain sh without any program of fleetd's,
# so that a host without a working fleetd still boots its workers (law 5).
set -u
export LC_ALL=C
list=/var/lib/mastodon-sidekiq/boot.list
links=/etc/systemd/system/mastodon-workers-boot.target.wants
seconds=120 # after this the next one starts, while this one continues to boot

units() { # the enabled units: first those of fleetd-render in its order, then those enabled by hand
    { cat "$list"; ls "$links"; } 2>/dev/null |
        grep -E '^mastodon-sidekiq(@[1-9][0-9]{0,3}|-scheduler)\.service$' |
        awk '!seen[$0]++' |
        while read -r unit; do [ ! -L "$links/$unit" ] || echo "$unit"; done
}

ours() { # of the units on stdin, those that take our settings: any other would serve every queue, `scheduler` too
    while read -r unit; do
        shown=$(systemctl show --property=LoadState,EnvironmentFiles,ExecStart "$unit" | sort -r) # LoadState first
        others=$(echo "$shown" | sed -n 's/^EnvironmentFiles=\(\/[^ ]*\) .*/\1/p' | grep -v '^/var/lib/mastodon-sidekiq/')
        # shellcheck disable=SC2086
        if [ -n "$others" ] && grep -Eqs '^[[:space:]]*(export[[:space:]]+)?SIDEKIQ_ARGS[[:space:]]*=' $others; then
            shown=LoadState=loaded # another file sets the queues
        fi
        case $shown in
        *LoadState=loaded*SIDEKIQ_ARGS*EnvironmentFiles=/var/lib/mastodon-sidekiq/*) ;;
        *LoadState=loaded*)
            echo "<4>$unit is not fleetd's, so it is not started: see fleetctl check-config" >&2
            continue
            ;;
        esac # of any other, such as a masked one, systemd says what is wrong
        echo "$unit"
    done
}

case $1 in
start)
    at_once=$(sed -n 's/^at_once \([1-9][0-9]\{0,3\}\)$/\1/p' "$list" 2>/dev/null | head -n 1)
    # `systemctl start` returns when the worker is READY or has failed; a masked or given-up unit fails at once.
    # shellcheck disable=SC2016
    units | ours | xargs -r -n 1 -P "${at_once:-4}" sh -c '
        timeout "$1" systemctl start "$2"
        [ $? -ne 124 ] || echo "<4>$2 is not up after $1 s and continues to boot; the next one starts."
    ' boot "$seconds"
    exit 0 # a worker that fails reports it itself
    ;;
stopped)
    # Stopped in the middle, with the target: stops a worker whose start was on its way to systemd at that moment.
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
