# For run.sh and replay.sh: what both compile, and with what.
# Sets build, flags, mbedtls and targets (those named, or all).

cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}/fuzz
flags="-std=c11 -D_GNU_SOURCE -g -O1 -fno-omit-frame-pointer"
mbedtls=${MBEDTLS_LIBS:-$(pkg-config --libs mbedtls mbedx509 mbedcrypto \
    2>/dev/null || echo -lmbedtls -lmbedx509 -lmbedcrypto)}
targets=$*
if [ -z "$targets" ]; then
    targets=$(ls tests/fuzz/fuzz_*.c | sed 's,.*/fuzz_,,; s,\.c$,,')
fi
for name in $targets; do
    if [ ! -f "tests/fuzz/fuzz_$name.c" ]; then
        echo "there is no fuzz target $name" >&2
        exit 1
    fi
done

# sizes_of NAME: what its first lines want config.h to say.
sizes_of() {
    sed -n 's,^/\* FUZZ_CFLAGS: \(.*\) \*/$,\1,p' "tests/fuzz/fuzz_$1.c" |
        tr '\n' ' '
}

# compile_rooms FOLDER COMPILER FLAGS...: all rooms but the one with main(),
# into an archive.
compile_rooms() {
    folder=$1
    shift
    rm -rf "$folder"
    mkdir -p "$folder" || return 1
    for room in *.c; do
        [ "$room" = relay.c ] || echo "$room"
    done | xargs -P "$(nproc)" -I '{}' "$@" -c -o "$folder/{}.o" '{}' &&
        ar rc "$folder/rooms.a" "$folder"/*.o
}
