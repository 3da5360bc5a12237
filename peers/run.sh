#!/usr/bin/env bash
# Builds the peers, runs them and gatefold on the same networks, and prints one table; --help lists the options.
#   peers/run.sh --quick
#   peers/run.sh train --threads 1      # steps of training instead of runs
# Python packages: $PEERS_PYTHON names an interpreter that has them, else a venv is made under target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"

if [[ -z "${PEERS_PYTHON:-}" ]]; then
    PEERS_PYTHON=$PWD/../target/peers/venv/bin/python
    if [[ ! -x $PEERS_PYTHON ]]; then
        python3 -m venv ../target/peers/venv
        "$PEERS_PYTHON" -m pip install --quiet -r python/requirements.txt
    fi
fi
script=run.py
if [ "${1:-}" = train ]; then
    script=train.py
    shift
fi
exec "$PEERS_PYTHON" "$script" "$@"
