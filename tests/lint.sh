#!/bin/sh
# Formatting, static analysis, and the laws of the house.
set -eu
cd "$(dirname "$0")/.."
code=$(ls ./*.c ./*.h)
tests=$(find tests -name "*.[ch]")

# shellcheck disable=SC2086
clang-format --dry-run -Werror $code $tests
echo 'clang-format: clean'

# shellcheck disable=SC2086
clang-tidy --quiet --warnings-as-errors='*' ./*.c -- -std=c11 -D_GNU_SOURCE \
    2>/dev/null
echo 'clang-tidy: clean'

cppcheck --quiet --std=c11 --enable=warning,performance,portability \
    --inline-suppr --error-exitcode=1 -D_GNU_SOURCE -D__GNUC__ \
    --suppress=missingIncludeSystem --suppress=uninitvar:dns_packet.c ./*.c
echo 'cppcheck: clean'

python3 tests/e2e/test_house.py
