#!/bin/sh
# Builds and runs every test: unit and dialogue tests, the fuzz seeds, the model
# of the held reply, and the binary against real peers. The last line counts
# them all. LEAVE_OUT names files, or seeds or model, that are not to be run.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
export BUILD
passed=0
failed=0
log=$(mktemp)
logs=$(mktemp -d)
trap 'rm -rf "$log" "$logs"' EXIT

count() { # count PASSED FAILED
    passed=$((passed + $1))
    failed=$((failed + $2))
}

"${MAKE:-make}" --no-print-directory -j"$(nproc)" all "$BUILD/unit" \
    "$BUILD/smarthost" "$BUILD/dns_probe" >"$log" 2>&1 || {
    cat "$log"
    echo '0 passed, 1 failed'
    exit 1
}

echo '== unit and dialogue tests'
"$BUILD/unit" | tee "$log"
set -- $(sed -n 's/.*Checks: \([0-9]*\), Failures: \([0-9]*\), Errors: \([0-9]*\).*/\1 \2 \3/p' "$log")
if [ "${1:-0}" -gt 0 ]; then
    count $(($1 - $2 - $3)) $(($2 + $3))
else
    count 0 1
fi

is_left_out() {
    case " ${LEAVE_OUT:-} " in *" $1 "*) return 0 ;; esac
    return 1
}

if ! is_left_out seeds; then
    echo '== fuzz seeds, replayed'
    tests/fuzz/replay.sh | tee "$log"
    set -- $(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$log" | tail -n 1)
    count "${1:-0}" "${2:-1}"
fi

if ! is_left_out model; then
    echo '== the model of the held reply'
    tests/model.sh | tee "$log"
    set -- $(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$log" | tail -n 1)
    count "${1:-0}" "${2:-1}"
fi

# AT_ONCE files side by side: for a build that is slow and tests no times.
files=
for file in tests/e2e/test_*.py; do
    is_left_out "${file#tests/e2e/}" || files="$files ${file#tests/e2e/}"
done
# shellcheck disable=SC2016,SC2086
printf '%s\n' $files | xargs -P "${AT_ONCE:-1}" -I{} sh -c '
    echo "== {}"
    ok=0
    timeout 900 python3 "tests/e2e/{}" >"$0/{}" 2>&1 || ok=1
    echo "$ok" >"$0/{}.ok"' "$logs"

for file in $files; do
    set -- $(sed -n 's/^Ran \([0-9]*\) tests\{0,1\}.*/\1/p' "$logs/$file" | tail -n 1)
    ran=${1:-0}
    bad=$(sed -n 's/^FAILED (\(.*\))/\1/p' "$logs/$file" | tr ',' '\n' |
        sed -n 's/.*\(failures\|errors\)=\([0-9]*\).*/\2/p' |
        awk '{ n += $1 } END { print n + 0 }')
    [ "$(cat "$logs/$file.ok")" = 0 ] || { [ "$bad" -gt 0 ] || bad=1; }
    [ "$ran" -gt 0 ] || bad=1
    if [ "$bad" -gt 0 ]; then
        echo "== $file"
        cat "$logs/$file"
    fi
    echo "$file: $(grep '^Ran ' "$logs/$file" | tail -n 1)"
    good=$((ran - bad))
    [ "$good" -ge 0 ] || good=0
    count "$good" "$bad"
done

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
