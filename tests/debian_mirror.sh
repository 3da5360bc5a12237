#!/usr/bin/env bash
# Prints the Debian mirror that this machine's apt uses, for suites that it does not list.
set -euo pipefail
# Also where no lists are there yet; security updates come from elsewhere.
uris=$(apt-get update --print-uris) || exit
mirror=$(sed -n "s#^'\(.*\)/dists/[^/]*/.*#\1#p" <<<"$uris" | grep -v -- -security | head -n 1)
[ -n "$mirror" ] || { printf 'expected a Debian mirror among the sources of apt, found none\n' >&2; exit 3; }
printf '%s\n' "$mirror"
