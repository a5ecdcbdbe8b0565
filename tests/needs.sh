#!/bin/sh
# Installs what a make target needs on Debian, when it is missing and we are
# root; else says what is missing. Usage: needs.sh build|run|test|lint|fuzz|size
set -eu

build="gcc libc6-dev make libmbedtls-dev"
case "$1" in
build) list="$build" ;;
run) list="$build openssl curl" ;;
test) list="$build openssl curl check pkg-config python3 postfix
    libsasl2-modules sasl2-bin swaks msmtp dnsmasq-base strace procps iproute2
    valgrind faketime binutils util-linux libnet-ssleay-perl sslscan
    testssl.sh s-nail bzip2 python3-dkim node-nodemailer spin"
    # Any node does; Debian's need not be the one that is here.
    command -v node >/dev/null || list="$list nodejs" ;;
lint) list="$build clang clang-format clang-tidy cppcheck check python3
    universal-ctags" ;;
fuzz) list="$build clang libclang-rt-14-dev" ;;
size) list="$build binutils universal-ctags" ;;
*)
    echo "usage: $0 build|run|test|lint|fuzz|size" >&2
    exit 64
    ;;
esac

command -v dpkg-query >/dev/null || exit 0 # not Debian: the person knows best

missing=
for package in $list; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || :)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "missing packages; as root: apt-get install$missing" >&2
    exit 1
fi

# A freshly installed Postfix must not start: the tests run their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } \
    >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    exit 1
fi
rm -f "$log"
