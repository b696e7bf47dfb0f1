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

# built FILE: the module version that the Go linker wrote into FILE. It shows
# the version of a program that was put here without this script.
built() {
	go version -m "$1" 2>/dev/null | awk '$1 == "mod" { print $3 }'
}

# install NAME PACKAGE VERSION: NAME in .tools/bin is PACKAGE of exactly VERSION.
install() {
	if [ -x "$bin/$1" ]; then
		if [ "$(cat "$stamps/$1" 2>/dev/null)" = "$3" ]; then
			echo "tools.sh: $1 $3 is installed"
			return
		fi
		if [ "$(built "$bin/$1")" = "$3" ]; then
			echo "$3" >"$stamps/$1"
			echo "tools.sh: $1 $3 was installed before; noted"
			return
		fi
	fi
	echo "tools.sh: building $1 $3"
	rm -rf "$work/bin"
	(cd "$work" && GOFLAGS= GOBIN=$work/bin CGO_ENABLED=0 go install -trimpath "$2@$3")
	# The move replaces a running program without touching it.
	mv -f "$work/bin/$(basename "$2")" "$bin/$1"
	echo "$3" >"$stamps/$1"
}

install cosign2 github.com/sigstore/cosign/v2/cmd/cosign v2.6.5
install cosign3 github.com/sigstore/cosign/v3/cmd/cosign v3.1.3
install rekor-cli github.com/sigstore/rekor/cmd/rekor-cli v1.5.4
install crane github.com/google/go-containerregistry/cmd/crane v0.22.1
install staticcheck honnef.co/go/tools/cmd/staticcheck v0.8.2
