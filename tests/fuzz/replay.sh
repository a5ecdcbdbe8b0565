#!/bin/sh
# Replays the seeds of each fuzz target (all, or those named) with the
# sanitizers and without libFuzzer, so that any compiler will do.
. "$(dirname "$0")/common.sh"

cc=${CC:-cc}
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
passed=0
failed=0

compile_rooms "$build/replay_rooms" $cc $flags $sanitize || exit 1
for name in $targets; do
    log=$build/replay_$name.log
    sizes=$(sizes_of "$name")
    rooms=$build/replay_rooms
    if [ -n "$sizes" ]; then
        rooms=$build/replay_rooms_$name
        compile_rooms "$rooms" $cc $flags $sizes $sanitize || exit 1
    fi
    if $cc $flags $sizes $sanitize -o "$build/replay_$name" tests/fuzz/replay.c \
        "tests/fuzz/fuzz_$name.c" "$rooms/rooms.a" $mbedtls \
        >"$log" 2>&1 &&
        "$build/replay_$name" "tests/fuzz/seeds/$name"/* >>"$log" 2>&1; then
        passed=$((passed + 1))
        printf '%-10s %s\n' "$name" "$(tail -n 1 "$log")"
    else
        failed=$((failed + 1))
        printf '%-10s FAILED, see %s\n' "$name" "$log"
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
