#!/bin/sh
# What the house weighs: lines per room, function lengths, bytes, memory.
set -eu
binary=$1
cd "$(dirname "$0")/.."

echo '== Lines per room (.c and .h)'
for c in ./*.c; do
    room=$(basename "$c" .c)
    h=0
    [ ! -e "$room.h" ] || h=$(wc -l <"$room.h")
    printf '  %-14s %5d %4d\n' "$room" "$(wc -l <"$c")" "$h"
done
printf '  %-14s %5d\n' config.h "$(wc -l <config.h)"
printf '  %-14s %5d\n' 'all' "$(cat ./*.c ./*.h | wc -l)"

echo '== Functions (lines, blanks and comments included)'
ctags -x --languages=C --kinds-C=f --_xformat='%{line} %{end} %N' ./*.c |
    awk '{ print $2 - $1 + 1, $3 }' | sort -n | awk '
        { n[NR] = $1; name[NR] = $2 }
        END { printf "  %d functions: median %d, 95th percentile %d, longest %d (%s)\n",
              NR, n[int((NR + 1) / 2)], n[int(NR * 0.95 + 0.5)], n[NR], name[NR] }'

echo '== Bytes'
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
"${STRIP:-strip}" -o "$stripped" "$binary"
printf '  stripped binary %10d\n' "$(wc -c <"$stripped")"
size -A "$binary" | awk '
    $1 == ".text" || $1 == ".data" || $1 == ".bss" { printf "  %-15s %10d\n", $1, $2 }'

echo '== Memory, as the program states it'
ca=$(mktemp)
printf 'smarthost = example.com:587\nsmarthost_tls = none\n' >"$ca"
"$binary" settings -c "$ca" | sed -n '/^# Memory/,$p' | sed 's/^#/ /'
rm -f "$ca"
