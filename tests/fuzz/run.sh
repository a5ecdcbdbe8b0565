#!/bin/sh
# Runs the fuzz targets (all, or those named), each for FUZZ_SECONDS (60), as
# many at a time as there are processors. New inputs go to a scratch corpus;
# the seeds stay as they are. A finding is kept in $BUILD/fuzz and fails.
. "$(dirname "$0")/common.sh"

seconds=${FUZZ_SECONDS:-60}
cc=${CLANG:-clang}
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=undefined"

compile_rooms "$build/fuzz_rooms" $cc $flags $sanitize \
    -fsanitize=fuzzer-no-link || exit 1
for name in $targets; do
    sizes=$(sizes_of "$name")
    rooms=$build/fuzz_rooms
    if [ -n "$sizes" ]; then
        rooms=$build/fuzz_rooms_$name
        compile_rooms "$rooms" $cc $flags $sizes $sanitize \
            -fsanitize=fuzzer-no-link || exit 1
    fi
    $cc $flags $sizes $sanitize -fsanitize=fuzzer -o "$build/fuzz_$name" \
        "tests/fuzz/fuzz_$name.c" "$rooms/rooms.a" $mbedtls || exit 1
done

# run_one NAME: its line, and a file beside its log when it went well.
run_one() {
    corpus=$build/corpus_$1 log=$build/fuzz_$1.log seeds=tests/fuzz/seeds/$1
    rm -rf "$corpus" "$log" "$log.good"
    mkdir -p "$corpus"
    [ -d "$seeds" ] || seeds=
    started=$(date +%s)
    if "$build/fuzz_$1" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$build/finding_$1_" "$corpus" $seeds \
        >"$log" 2>&1; then
        result='no finding'
        : >"$log.good"
    else
        result="FINDING, see $log"
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '%-10s %10s runs %5s s  %s\n' "$1" "${runs:-?}" \
        $(($(date +%s) - started)) "$result"
}

set -- $targets
while [ $# -gt 0 ]; do
    wave=0
    while [ $# -gt 0 ] && [ $wave -lt "$(nproc)" ]; do
        run_one "$1" &
        shift
        wave=$((wave + 1))
    done
    wait
done

failed=0
for name in $targets; do
    [ -f "$build/fuzz_$name.log.good" ] || failed=$((failed + 1))
done
[ $failed -eq 0 ]
