#!/usr/bin/env bash
# Runs all tests. Usage: ./test.sh [-short | -full] [flags of go test] [./packages...]
#
#   ./test.sh                  everything but the long runs, with the race detector
#   ./test.sh -short           the quick part
#   ./test.sh -full            everything, the long runs too, and every fuzz target for 30 seconds
#   ./test.sh -run SPF ./filters
#
# The integration tests start real mail servers. As root on Debian this script installs what they need (and never
# starts a service); otherwise it says what it leaves out. POSTERN_CI=1 makes everything that is left out a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec </dev/null

packages_debian=(postfix dovecot-core dovecot-lmtpd nginx libnginx-mod-stream libnginx-mod-mail haproxy opendkim opendkim-tools swaks libnet-ssleay-perl gcc libc6-dev ca-certificates
	prometheus clamav-daemon fail2ban logrotate systemd rsyslog zsh fish mandoc)
peers=${POSTERN_PEERS:-/var/cache/postern-peers} # Exim and OpenSMTPD, unpacked; see proxy/peertest/fetch.sh
fuzz_time=${POSTERN_FUZZTIME:-30s}

say() { printf 'test.sh: %s\n' "$*" >&2; }

mode=normal
flags=()
targets=()
for arg in "$@"; do
	case $arg in
	-short) mode=short; flags+=(-short) ;;
	-full) mode=full; export POSTERN_FULL=1; packages_debian+=(debootstrap buildah) ;;
	-h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
	./*) targets+=("$arg") ;;
	*) flags+=("$arg") ;;
	esac
done
[ ${#targets[@]} -gt 0 ] || targets=(./...)

temp=$(mktemp -d)
policy=
cleanup() {
	[ -z "$policy" ] || rm -f "$policy"
	chmod -R u+w "$temp" # a module cache is read-only
	rm -rf "$temp"
}
trap cleanup EXIT

. .ci/caches.sh

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]; }

missing_packages() {
	local p
	for p in "${packages_debian[@]}"; do
		installed "$p" || printf '%s\n' "$p"
	done
}

# A package that is installed for the tests must not start its server: there is a switch for that in Debian.
keep_services_down() {
	[ ! -e /usr/sbin/policy-rc.d ] || return 0
	policy=/usr/sbin/policy-rc.d
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
}

# apt runs quietly and shows its output only when it fails. A machine without network may still run the other tests.
quiet() {
	"$@" >"$temp/output" 2>&1 && return
	cat "$temp/output" >&2
	say "failed: $*"
	[ "${POSTERN_CI:-}" != 1 ]
}

updated=
update_once() {
	[ -z "$updated" ] || return 0
	updated=yes
	quiet apt-get -q update
}

install_packages() {
	local missing
	mapfile -t missing < <(missing_packages)
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		say "not root: not installing ${missing[*]}"
		return
	fi
	say "installing ${missing[*]}"
	keep_services_down
	export DEBIAN_FRONTEND=noninteractive
	update_once
	if command -v debconf-set-selections >/dev/null; then
		echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
	fi
	quiet apt-get -q install -y --no-install-recommends "${missing[@]}"
}

fetch_peers() {
	if [ -e "$peers/exim4-heavy/complete" ] && [ -e "$peers/opensmtpd/complete" ]; then
		return
	fi
	if [ "$(id -u)" -ne 0 ]; then
		say "not root: not fetching Exim and OpenSMTPD"
		return
	fi
	say "fetching Exim and OpenSMTPD to $peers"
	update_once
	mkdir -p "$peers"
	quiet proxy/peertest/fetch.sh "$peers"
}

race_flag() {
	if [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC)" >/dev/null; then
		printf -- '-race'
	elif [ "${POSTERN_CI:-}" = 1 ]; then
		say "no C compiler: the race detector cannot run"
		return 1
	else
		say "no C compiler: running without the race detector"
	fi
}

run_fuzz() {
	local package target
	while read -r package; do
		while read -r target; do
			say "fuzz $package $target for $fuzz_time"
			# Making interesting inputs smaller may take a minute each by default, which ends some runs with a deadline.
			go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzz_time" -fuzzminimizetime 1s "$package"
		done < <(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true)
	done < <(go list "${targets[@]}")
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
	install_packages
	fetch_peers
else
	say "not Debian: the integration tests use what is there of ${packages_debian[*]}"
fi
if ! command -v go >/dev/null; then
	say "no go command in PATH (Postern needs $(sed -n 's/^go /Go /p' go.mod))"
	exit 1
fi
find_caches
if [ "$(id -u)" -ne 0 ]; then
	say "not root: tests against real mail servers are left out"
fi
race=$(race_flag)

say "go test ${race:+$race }${flags[*]:-} ${targets[*]}"
timeout=15m
[ "$mode" != full ] || timeout=90m
go test ${race:+"$race"} -timeout "$timeout" ${flags[@]+"${flags[@]}"} "${targets[@]}"
if [ "$mode" = full ]; then
	run_fuzz
fi
say "all passed ($mode)"
