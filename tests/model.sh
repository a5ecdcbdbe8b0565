#!/bin/sh
# Lets the model checker walk through every run of held_reply.pml, in each of
# its variants; a line each, and their count at the end.
set -u
pml=$(cd "$(dirname "$0")" && pwd)/held_reply.pml
command -v spin >/dev/null || {
    echo 'model: spin is missing (apt-get install spin)'
    echo '0 passed, 1 failed'
    exit 1
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

check() { # check REFUSE CRASH STOP
    variant="-DREFUSE=$1 -DCRASH=$2 -DSTOP=$3"
    mkdir "$dir/$1$2$3" && cd "$dir/$1$2$3" && cp "$pml" . || return 1
    # One process: there is nothing for the partial order to reduce. And pan.c
    # takes longer to be optimized than to run.
    # shellcheck disable=SC2086
    spin -a $variant held_reply.pml >log 2>&1 &&
        ${CC:-cc} -O0 -w -DSAFETY -DNOREDUCE -o pan pan.c >>log 2>&1 &&
        ./pan -m20000 >>log 2>&1
    errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' log)
    states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' log)
    echo "model refuse=$1 crash=$2 stop=$3 errors=${errors:-?}" \
        "states=${states:-?}"
    [ "$errors" = 0 ] && ! grep -q 'too small' log && return
    grep -v '^$' log | head -n 5
    # shellcheck disable=SC2086
    [ ! -f held_reply.pml.trail ] ||
        spin -t -p $variant held_reply.pml | tail -n "${TRAIL:-40}"
    return 1
}

# Two at a time: that is enough to be quick, and a moderate use of memory.
passed=0
failed=0
for variant in '0 0' '0 1' '1 0' '1 1'; do
    # shellcheck disable=SC2086
    check $variant 0 >"$dir/first" &
    first=$!
    # shellcheck disable=SC2086
    check $variant 1 >"$dir/second" &
    for job in $first $!; do
        if wait "$job"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
        fi
    done
    cat "$dir/first" "$dir/second"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
