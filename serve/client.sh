#!/usr/bin/env bash
# Tests the server with a public client of its protocol, tritonclient, in a virtual environment of its own.
#
#   serve/client.sh [GATEFOLD]     the command that serves; by default that of the debug build
#
# The last line says how many checks passed.
set -euo pipefail

fail() { printf 'serve/client.sh: %s\n' "$*" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
gatefold=${1:-$target/debug/gatefold}
[ -x "$gatefold" ] || fail "expected the command in $gatefold (cargo build)"
python=${PYTHON:-python3}
"$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' ||
    fail "expected Python 3.10 or later with venv ($python; on Debian: python3-venv)"
environment=$target/serve/environment
[ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check "tritonclient[http]>=2.50,<3"
exec "$environment/bin/python" serve/tests/client.py "$gatefold"
