#!/usr/bin/env bash
# Fuzzes every reader for a bounded time: fuzz/run.sh [SECONDS]. Needs no nightly and no
# cargo-fuzz: the flags below are what it passes without sanitizers. A C++ compiler builds libFuzzer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds="${1:-20}"

export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing"
target="${CARGO_TARGET_DIR:-../target}/fuzz"
# With an explicit --target, the flags do not apply to build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --quiet --target-dir "$target" --target "$host"

# Seeds: every small file of each kind that the tests have.
seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
mkdir -p "$seeds"/{amp,keras,onnx,safetensors}
for bundle in ../tests/goldens/*.zip; do
    unzip -q -o "$bundle" -d "$seeds/all"
done
cp ../tests/goldens/*.safetensors "$seeds/all"
find "$seeds/all" -size -64k \( -name '*.keras' -o -name '*.h5' \) -exec cp -t "$seeds/keras" {} +
find "$seeds/all" -size -64k \( -name '*.nam' -o -name '*.aidax' -o -name '*.json' \) -exec cp -t "$seeds/amp" {} +
find "$seeds/all" -size -64k -name '*.onnx' -exec cp -t "$seeds/onnx" {} +
find "$seeds/all" -size -64k -name '*.safetensors' -exec cp -t "$seeds/safetensors" {} +

for name in amp keras onnx safetensors; do
    [ -f "fuzz_targets/$name.rs" ] || continue
    count=$(find "$seeds/$name" -type f | wc -l)
    [ "$count" -gt 0 ] || { echo "fuzz: no seeds for $name" >&2; exit 1; }
    echo "fuzz: $name for $seconds s from $count seeds"
    # 512 MiB is far more than reading a file of 128 KiB needs.
    if ! "$target/$host/release/$name" "$seeds/$name" -max_total_time="$seconds" -max_len=131072 \
        -rss_limit_mb=512 -malloc_limit_mb=256 -timeout=10 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$PWD/" >"$seeds/log" 2>&1; then
        tail -n 60 "$seeds/log"
        echo "fuzz: $name crashed; the input is kept in fuzz/" >&2
        exit 1
    fi
    grep -E "number_of_executed_units|peak_rss_mb" "$seeds/log"
done
echo "fuzz: no target crashed"
