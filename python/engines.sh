#!/usr/bin/env bash
# Scores 100,000 rows of 20 files on a local cluster of an engine, of which one worker is killed, with the snippets of
# docs/many-machines.md. Dask is tested by python/test.sh too, with fewer rows.
#
#   python/engines.sh ray [dask] [spark] [daft]
#
# Installs the engine in a virtual environment of its own; Spark needs Java too (Debian: openjdk-17-jre-headless).
set -euo pipefail

fail() { printf 'python/engines.sh: %s\n' "$*" >&2; exit 1; }

[ $# != 0 ] || fail "expected names of engines: ray, dask, spark, daft"
cd "$(dirname "${BASH_SOURCE[0]}")"
target=$(cd .. && realpath -m "${CARGO_TARGET_DIR:-target}")
wheel=$(ls "$target"/python/wheels/gatefold_rnn-*.whl 2>/dev/null) || fail "expected the wheel that python/test.sh builds"
for engine in "$@"; do
    case $engine in
        dask) packages=(distributed) ;;
        ray) packages=("ray[data]") ;;
        spark) packages=("pyspark>=4" pandas) ;;
        daft) packages=(daft) ;;
        *) fail "expected ray, dask, spark, daft, got $engine" ;;
    esac
    environment=$target/python/$engine
    [ -x "$environment/bin/python" ] || "${PYTHON:-python3}" -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
    "$environment/bin/pip" install --quiet --disable-pip-version-check "numpy>=1.24" "pytest>=8" pyarrow "${packages[@]}"
    GATEFOLD_ENGINES=$engine GATEFOLD_ENGINE_ROWS=${GATEFOLD_ENGINE_ROWS:-100000} GATEFOLD_PYTHON_REQUIRE=pyarrow \
        "$environment/bin/python" -m pytest -s -q -p no:cacheprovider tests/test_engines.py
done
