# Read by the scripts bench-vs-* and compare-with-*, in the root of the module: what
# the programs of a public implementation need to run beside sigstack. The Go toolchain
# builds them, each of a pinned version and as its project builds it, into
# .tools/versus, which git ignores.
# shellcheck shell=sh

scripts/debian.sh
export VERSUS="$PWD/.tools/versus"
mkdir -p "$VERSUS"

# Outside of any module: "go install package@version" must not see our go.mod.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# install PACKAGE VERSION
install() {
	name=$(basename "$1")
	if [ "$(go version -m "$VERSUS/$name" 2>/dev/null | awk '$1 == "mod" { print $3 }')" = "$2" ]; then
		return
	fi
	echo "$(basename "$0"): building $name $2"
	(cd "$work" && GOFLAGS= GOBIN=$VERSUS CGO_ENABLED=0 go install -trimpath "$1@$2")
}

install github.com/google/trillian/cmd/trillian_log_server v1.8.0
install github.com/google/trillian/cmd/trillian_log_signer v1.8.0
install github.com/google/trillian/cmd/createtree v1.8.0
