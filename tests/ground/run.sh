#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Compiles and runs every measurement; a table of each on standard output. Files go to OUTDIR (or a temporary folder,
# whose table of cuGetProcAddress is then printed too). CC names the compiler, ONLY the measurements ("layout codes").
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
programs=${ONLY:-ground layout threads context confine register codes device procaddress}

compile() { # source, program, further options
	source=$1 program=$2
	shift 2
	"${CC:-gcc}" -O2 -Wall -Wextra -pthread "$@" -o "$build/$program" "$here/$source.c" -ldl
}

for name in $programs; do
	[ -e "$here/$name.c" ] || continue
	compile "$name" "$name" || continue
	case $name in
	layout)
		compile layout layout-fixed -no-pie -fno-pie
		timeout -k 2 20 "$build/layout"
		timeout -k 2 20 "$build/layout-fixed" ;;
	procaddress)
		if [ -n "${OUTDIR:-}" ]; then
			timeout -k 2 45 "$build/procaddress" "$here/symbols.txt" >"$OUTDIR/procaddress.tsv"
			printf '\ncuGetProcAddress: %s lines in procaddress.tsv\n' "$(wc -l <"$OUTDIR/procaddress.tsv")"
		else
			printf '\n'
			timeout -k 2 45 "$build/procaddress" "$here/symbols.txt"
		fi ;;
	*)
		timeout -k 2 60 "$build/$name" ;;
	esac
	result=$?
	[ $result -eq 0 ] || printf '\n%s ended with %s\n' "$name" "$result"
done
