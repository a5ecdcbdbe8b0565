#!/bin/sh
# make_busybox.sh DIR: DIR/sendmail, busybox's, which Debian's busybox leaves
# out. Built from Debian's own source (checked by its archive key), with
# nothing else in it. Needs no root; about twenty seconds.
set -eu
# Run by "make test": what lanpost is to be built with is not for busybox.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES CC CFLAGS CPPFLAGS LDFLAGS CROSS_COMPILE

dir=${1:?usage: make_busybox.sh DIR}
mkdir -p "$dir"
cd "$dir"
dir=$PWD
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

quiet() {
    "$@" >log 2>&1 </dev/null || {
        tail -n 30 log >&2
        exit 1
    }
}

# The archives of this system, asked for sources; in a state of our own.
mkdir -p parts lists/partial cache/archives/partial
# shellcheck disable=SC1091,SC2153
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
key=/usr/share/keyrings/debian-archive-keyring.gpg
# shellcheck disable=SC2016
apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(SITE)' \
    'Created-By: Packages' |
    sed -n "s#^$release main \(.*\)#deb-src [signed-by=$key] \1 $release main#p" |
    sort -u >parts/source.list
[ -s parts/source.list ] || {
    echo "apt knows no archive of $release: no source of busybox" >&2
    exit 1
}
from_source() {
    quiet apt-get -o Dir::Etc::SourceList=/dev/null \
        -o Dir::Etc::SourceParts="$work/parts" \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}
from_source update
from_source source --download-only busybox

mkdir source
tar xjf busybox_*.orig.tar.bz2 --strip-components=1 -C source
cd source
quiet make HOSTCFLAGS=-O0 allnoconfig
sed -i -e 's/^# \(CONFIG_SENDMAIL\) is not set/\1=y/' \
    -e 's/^# \(CONFIG_SH_IS_NONE\) is not set/\1=y/' \
    -e 's/^\(CONFIG_SH_IS_ASH\)=y/# \1 is not set/' .config
quiet make HOSTCFLAGS=-O0 oldconfig
quiet make -j"$(nproc)" HOSTCFLAGS=-O0 EXTRA_CFLAGS=-O0 SKIP_STRIP=y \
    busybox_unstripped
mv busybox_unstripped "$dir/sendmail"
