#!/bin/sh
# The main job, to be seen: starts the try-out smarthost, and lanpost towards
# it; sends one mail through, shows it arriving, and keeps running.
set -eu
build=${BUILD:-build}
here=$(dirname "$0")
listen=${LISTEN:-127.0.0.1:2525}
smarthost=${SMARTHOST:-127.0.0.1:2587}

dir=$(mktemp -d)
pids=
stop() {
    trap - EXIT INT TERM
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill $pids 2>/dev/null || :
    wait 2>/dev/null || :
    rm -rf "$dir"
}
trap stop EXIT
trap 'stop; exit 0' INT TERM

wait_for() { # wait_for TEXT FILE: up to ten seconds
    for _ in $(seq 100); do
        grep -q "$1" "$2" 2>/dev/null && return 0
        sleep 0.1
    done
    echo "no \"$1\" came; this was said instead:" >&2
    cat "$2" >&2
    exit 1
}

sh "$here/make_certs.sh" "$dir/certs" >/dev/null 2>&1

"$build/smarthost" --listen "$smarthost" --cert "$dir/certs/good.pem" \
    --key "$dir/certs/good.key" --user scanner --password secret --print \
    >"$dir/smarthost.log" 2>&1 &
pids="$pids $!"
wait_for listening "$dir/smarthost.log"

(
    umask 077
    cat >"$dir/lanpost.conf" <<CONF
listen = $listen
smarthost = $smarthost
smarthost_ca_file = $dir/certs/ca.pem
smarthost_user = scanner
smarthost_password = secret
CONF
)
"$build/lanpost" -c "$dir/lanpost.conf" 2>"$dir/lanpost.log" &
pids="$pids $!"
wait_for listening "$dir/lanpost.log"

printf 'Subject: Disk 2 of the NAS has failed\r\n\r\nPlease replace it.\r\n' |
    curl -s --url "smtp://$listen" --mail-from nas@example.com \
        --mail-rcpt admin@example.com --upload-file -
wait_for 'end of mail 1' "$dir/smarthost.log"

echo '== What lanpost said:'
cat "$dir/lanpost.log"
echo
echo '== What arrived at the smarthost, over TLS and after a login:'
cat "$dir/smarthost.log"
cat <<TEXT

== lanpost listens on $listen and keeps running; Ctrl-C ends it. Send more:

  printf 'Subject: test\r\n\r\nHello.\r\n' | curl --url smtp://$listen \\
      --mail-from me@example.com --mail-rcpt you@example.com --upload-file -

TEXT
tail -n 0 -f "$dir/lanpost.log" "$dir/smarthost.log" &
pids="$pids $!"
wait
