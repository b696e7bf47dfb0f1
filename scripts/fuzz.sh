#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME (default 10s), FUZZJOBS of
# them at a time (default: one for each processor), each in one worker.
#
#   FUZZTIME=10s scripts/fuzz.sh              all targets
#   FUZZTIME=1m scripts/fuzz.sh ./ca/... ./tsa   those of some packages
#
#   FUZZSEED=1 scripts/fuzz.sh                from the seeds, in the same order
#
# Each test binary is built once, with the coverage counters that guide the
# fuzzer. What a target has found interesting is kept in Go's cache, as
# `go test -fuzz` does, unless FUZZSEED asks for a run that depends on nothing
# before it. One line a target; a crasher is an error, and the line says how to
# run it again.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export FUZZTIME=${FUZZTIME:-10s}
jobs=${FUZZJOBS:-$(nproc)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export work root
FUZZCACHE=$(go env GOCACHE)/fuzz
if [ -n "${FUZZSEED:-}" ]; then
	FUZZCACHE=$work/cache
	export GODEBUG=fuzzseed=$FUZZSEED
fi
export FUZZCACHE

# one package, directory and target
one() {
	local package=$1 dir=$2 target=$3 binary cache out status=0
	local name=${dir#"$root"/}
	binary=$work/bin/${package//\//_}
	cache=$FUZZCACHE/$package
	out=$work/out/${package//\//_}.$target
	mkdir -p "$cache"
	cd "$dir"
	"$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$FUZZTIME" -test.fuzzminimizetime 100x \
		-test.fuzzcachedir "$cache" -test.parallel 1 -test.timeout 0 >"$out" 2>&1 || status=$?
	local last
	last=$(grep -o 'execs: [0-9]* ([0-9]*/sec), new interesting: [0-9]* (total: [0-9]*)' "$out" | tail -1 || true)
	# The end of the time can meet the fuzzer between two inputs, which it then
	# reports as a failure, without an input that has failed.
	if [ "$status" != 0 ] && grep -q '^    context deadline exceeded$' "$out" && ! grep -q 'testdata/fuzz/' "$out"; then
		status=0
	fi
	if [ "$status" != 0 ]; then
		printf 'FAIL  %-22s %-22s %s\n' "$name" "$target" "$last"
		touch "$work/failed"
		# What is printed of an input can be long.
		cut -c1-400 "$out" | grep -v '^fuzz: elapsed' | head -40
		grep -o 'testdata/fuzz/[A-Za-z0-9_]*/[0-9a-f]*' "$out" | head -1 | while read -r found; do
			echo "      again: go test -run '^${found#testdata/fuzz/}\$' ./$name     (the input is $name/$found)"
		done
		return 0
	fi
	local execs
	execs=$(grep -o 'execs: [0-9]*' "$out" | tail -1 | tr -dc 0-9 || true)
	if [ -z "$execs" ] || [ "$execs" = 0 ]; then
		printf 'FAIL  %-22s %-22s it ran no input\n' "$name" "$target"
		touch "$work/failed"
		return 0
	fi
	printf 'ok    %-22s %-22s %s\n' "$name" "$target" "$last"
}
export -f one

mkdir "$work/bin" "$work/out"
if [ $# = 0 ]; then set -- ./...; fi
# Only packages that have a target are built. The targets are read from their
# files, which is faster than asking each binary.
go list -f '{{$d := .Dir}}{{$p := .ImportPath}}{{range .TestGoFiles}}{{$p}} {{$d}} {{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$p}} {{$d}} {{.}}{{"\n"}}{{end}}' "$@" |
	while read -r package dir file; do
		{ grep -oE '^func Fuzz[A-Za-z0-9_]*\(' "$dir/$file" || true; } | sed 's/^func //; s/($//' | while read -r target; do
			echo "$package $dir $target"
		done
	done >"$work/targets"
if [ ! -s "$work/targets" ]; then
	echo "no fuzz target in $*" >&2
	exit 1
fi
cut -d' ' -f1 "$work/targets" | sort -u | while read -r package; do
	go test -c -fuzz=Fuzz -o "$work/bin/${package//\//_}" "$package"
done
# Targets that write files sync them: in memory, where there is such a place.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then
	TMPDIR=$(mktemp -d -p /dev/shm)
	export TMPDIR
	trap 'rm -rf "$work" "$TMPDIR"' EXIT
fi
echo "$(wc -l <"$work/targets") targets, $FUZZTIME each, $jobs at a time"
xargs -P "$jobs" -L 1 bash -c 'one "$@"' one <"$work/targets"
if [ -e "$work/failed" ]; then
	echo "a fuzz target failed; the input is in its package's testdata/fuzz, where go test runs it from now on" >&2
	exit 1
fi
