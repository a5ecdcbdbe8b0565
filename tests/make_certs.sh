#!/bin/sh
# make_certs.sh DIR: throwaway certificates for the tests, good ones and bad
# ones. Needs openssl alone. Each server certificate is DIR/NAME.pem (chain)
# and DIR/NAME.key; ca.pem is the root to trust. Never commit what it makes.
set -eu

dir=${1:?usage: make_certs.sh DIR}
mkdir -p "$dir"
cd "$dir"

good_names=DNS:localhost,DNS:smarthost.test,IP:127.0.0.1,IP:::1

quiet() {
    "$@" 2>openssl.log || { cat openssl.log >&2; exit 1; }
}

# key NAME [RSA_BITS]
key() {
    if [ "${2:-}" ]; then
        quiet openssl genrsa -out "$1.key" "$2"
    else
        quiet openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    fi
}

# root NAME
root() {
    key "$1"
    quiet openssl req -x509 -new -sha256 -key "$1.key" -days 3650 \
        -config req.cnf -subj "/CN=lanpost test $1" \
        -extensions root -out "$1.pem"
}

# request NAME CN SAN: NAME.csr and the extensions it is to have
request() {
    {
        echo 'basicConstraints = critical,CA:FALSE'
        echo 'keyUsage = critical,digitalSignature'
        echo 'extendedKeyUsage = serverAuth'
        [ -z "$3" ] || echo "subjectAltName = $3"
    } >"$1.ext"
    quiet openssl req -new -sha256 -key "$1.key" -config req.cnf \
        -subj "/CN=$2" -out "$1.csr"
}

# sign NAME ISSUER [openssl x509 options]
sign() {
    name=$1 issuer=$2
    shift 2
    serial=$((serial + 1))
    quiet openssl x509 -req -in "$name.csr" -CA "$issuer.pem" \
        -CAkey "$issuer.key" -set_serial "$serial" -days 3650 -sha256 \
        -extfile "$name.ext" -out "$name.pem" "$@"
}

# leaf NAME CN SAN [ISSUER [RSA_BITS [openssl x509 options]]]
leaf() {
    key "$1" "${5:-}"
    request "$1" "$2" "$3"
    name=$1 issuer=${4:-ca}
    shift "$(($# < 5 ? $# : 5))"
    sign "$name" "$issuer" "$@"
}

# dated NAME NOT_BEFORE NOT_AFTER: x509 cannot set dates everywhere, ca can
dated() {
    key "$1"
    request "$1" localhost "$good_names"
    : >index.txt
    serial=$((serial + 1))
    printf '%08X\n' "$serial" >serial
    quiet openssl ca -batch -notext -config req.cnf -cert ca.pem \
        -keyfile ca.key -in "$1.csr" -startdate "$2" -enddate "$3" \
        -extfile "$1.ext" -out "$1.pem"
}

cat >req.cnf <<'END'
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[ca]
default_ca = authority
[authority]
database = index.txt
new_certs_dir = .
serial = serial
default_md = sha256
policy = anything
unique_subject = no
[anything]
commonName = supplied
END

serial=1000
root ca
root other_ca

key intermediate
quiet openssl req -new -sha256 -key intermediate.key -config req.cnf \
    -subj '/CN=lanpost test intermediate' -out intermediate.csr
cat >intermediate.ext <<'END'
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
END
sign intermediate ca

leaf good         localhost      "$good_names"
leaf good_rsa     localhost      "$good_names"          ca 2048
leaf chain        localhost      "$good_names"          intermediate
leaf wrong_name   wrong.test     DNS:wrong.test
leaf unknown_ca   localhost      "$good_names"          other_ca
leaf cn_only      localhost      ''
leaf wildcard     wildcard       'DNS:*.lan.test'
leaf wildcard_bad wildcard       'DNS:*,DNS:*.test,DNS:s*.test'
leaf ip_in_cn     127.0.0.1      ''
leaf small_rsa    localhost      "$good_names"          ca 1024
leaf sha1         localhost      "$good_names"          ca '' -sha1

# The name goes on behind a NUL, which only raw DER can say:
# smarthost.test\0.evil.test
leaf nul_san smarthost.test \
    DER:301b8219736d617274686f73742e74657374002e6576696c2e74657374

cp chain.key missing_intermediate.key
cp chain.pem missing_intermediate.pem
cat intermediate.pem >>chain.pem

dated expired 20200101000000Z 20210101000000Z
dated not_yet 20900101000000Z 20910101000000Z

key self_signed
quiet openssl req -x509 -new -sha256 -key self_signed.key -days 3650 \
    -config req.cnf -subj /CN=localhost -addext "subjectAltName=$good_names" \
    -out self_signed.pem

rm -f ./*.csr ./*.ext req.cnf index.txt* serial serial.old openssl.log \
    [0-9A-F]*.pem
