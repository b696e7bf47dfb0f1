#!/bin/sh
# Installs the programs that tests and checks run, each pinned, into .tools/bin,
# which git ignores. The Go toolchain builds them, so nothing else is needed.
# A second run does nothing.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
bin=$root/.tools/bin
stamps=$root/.tools/stamps
mkdir -p "$bin" "$stamps"

# Outside of any module: "go install package@version" must not see our go.mod.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# built FILE: the module version that the Go linker wrote into FILE, and the
# build tags if there are any. It shows the version of a program that was put
# here without this script.
built() {
	go version -m "$1" 2>/dev/null | awk '$1 == "mod" { version = $3 } $1 == "build" && sub(/^-tags=/, " ", $2) { tags = $2 } END { print version tags }'
}

# install NAME PACKAGE VERSION [TAGS]: NAME in .tools/bin is PACKAGE of exactly
# VERSION, built with TAGS.
install() {
	want=$3${4:+ $4}
	if [ -x "$bin/$1" ]; then
		if [ "$(cat "$stamps/$1" 2>/dev/null)" = "$want" ]; then
			echo "tools.sh: $1 $want is installed"
			return
		fi
		if [ "$(built "$bin/$1")" = "$want" ]; then
			echo "$want" >"$stamps/$1"
			echo "tools.sh: $1 $want was installed before; noted"
			return
		fi
	fi
	echo "tools.sh: building $1 $want"
	rm -rf "$work/bin"
	(cd "$work" && GOFLAGS= GOBIN=$work/bin CGO_ENABLED=0 go install -trimpath -tags "${4:-}" "$2@$3")
	# The move replaces a running program without touching it.
	mv -f "$work/bin/$(basename "$2")" "$bin/$1"
	echo "$want" >"$stamps/$1"
}

# installHere NAME DIRECTORY: NAME in .tools/bin is the program in DIRECTORY, which is
# a module of its own: what it needs shall not be in our go.mod.
installHere() {
	want=$(cat "$2"/*.go "$2"/go.* | sha256sum | cut -d' ' -f1)
	if [ -x "$bin/$1" ] && [ "$(cat "$stamps/$1" 2>/dev/null)" = "$want" ]; then
		echo "tools.sh: $1 of $2 is installed"
		return
	fi
	echo "tools.sh: building $1 of $2"
	(cd "$2" && GOFLAGS= CGO_ENABLED=0 go build -mod=readonly -trimpath -o "$work/$1" .)
	mv -f "$work/$1" "$bin/$1"
	echo "$want" >"$stamps/$1"
}

install cosign2 github.com/sigstore/cosign/v2/cmd/cosign v2.6.5
install cosign3 github.com/sigstore/cosign/v3/cmd/cosign v3.1.3
install rekor-cli github.com/sigstore/rekor/cmd/rekor-cli v1.5.4
install crane github.com/google/go-containerregistry/cmd/crane v0.22.1
# With the tag that the storage of sigstack is built with.
install trillian_log_server github.com/google/trillian/cmd/trillian_log_server v1.8.0 batched_queue
install trillian_log_signer github.com/google/trillian/cmd/trillian_log_signer v1.8.0 batched_queue
install pebble github.com/letsencrypt/pebble/v2/cmd/pebble v2.10.1
install staticcheck honnef.co/go/tools/cmd/staticcheck v0.8.2
# HashiCorp Vault v1.13.1.
installHere vault test/vault
