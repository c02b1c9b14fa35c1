# Sourced by test.sh and .ci/run, with $temp a folder that is removed at the end.
# The go command wants two caches, by default below HOME, which may not be there or not be writable.
# shellcheck shell=bash

writable() { mkdir -p "$1" 2>/dev/null && [ -w "$1" ]; }

find_caches() {
	export HOME=${HOME:-$temp/home}
	local cache modules proxy
	cache=$(go env GOCACHE 2>/dev/null || true)
	if [ -z "$cache" ] || ! writable "$cache"; then
		export GOCACHE=$temp/go-build
	fi
	modules=$(go env GOMODCACHE)
	if ! writable "$modules"; then
		proxy=$(go env GOPROXY)
		[ ! -d "$modules/cache/download" ] || proxy="file://$modules/cache/download,$proxy"
		export GOMODCACHE=$temp/go-mod GOPROXY=$proxy
	fi
}
