#!/usr/bin/env bash
# Runs the whole battery and the benchmarks on this machine's GPU; packed by benches/gpu-run.sh, needs no Rust.
#
#   OUT=results ./run.sh [--software] [--only tests|bench|criterion|peers]...
#
# --software takes a software adapter (lavapipe) and shorter runs: it shows that the kit works, not how fast a GPU is.
# In $OUT (./out): log, the whole output; summary, a line per part; record.tar.gz, for benches/gpu-run.sh fetch.
# The exit code is 1 if a test or a benchmark failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${OUT:=out}"
OUT=$(cd "$OUT" && pwd)
device=gpu
only=()
while [ $# -gt 0 ]; do
    case "$1" in
        --software) device=software ;;
        --only) only+=("${2:?--only: expected tests, bench, criterion or peers}"); shift ;;
        *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done
exec > >(tee "$OUT/log") 2>&1
: >"$OUT/summary"
failed=0

wanted() { [ ${#only[@]} = 0 ] || [[ " ${only[*]} " == *" $1 "* ]]; }

# A line of the summary from a command's exit code: outcome NAME CODE
outcome() {
    if [ "$2" = 0 ]; then echo "passed   $1" >>"$OUT/summary"; else echo "FAILED   $1" >>"$OUT/summary"; failed=1; fi
}
not_run() { echo "NOT RUN  $1: $2" | tee -a "$OUT/summary"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -xzf "$here/kit.tar.gz" -C "$work/" || exit 1
mkdir -p "$work/shared" "$work/record"
[ ! -d "$work/data" ] || mv "$work/data" "$work/shared/data"
export GATEFOLD_REPOSITORY=$work/repository XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
commit=$(cat "$work/commit")
export GATEFOLD_COMMIT=$commit

# The loader and the driver, where the machine does not know of them itself.
if ! ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
    export LD_LIBRARY_PATH=$work/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -z "${VK_DRIVER_FILES:-}" ] && [ "$device" = gpu ] && [ -f "$nvidia" ] && ! ls /usr/share/vulkan/icd.d/*nvidia* /etc/vulkan/icd.d/*nvidia* >/dev/null 2>&1; then
    export VK_DRIVER_FILES=$nvidia
fi

echo "== gatefold $commit on $(uname -srm)"
command -v nvidia-smi >/dev/null && nvidia-smi
"$work/bin/gatefold" devices || { not_run everything "gatefold devices failed"; exit 1; }

if wanted tests; then
    export GATEFOLD_TEST_DEVICE=$device GATEFOLD_REQUIRE_ADAPTER=1
    [ ! -d "$work/shared/data" ] || export GATEFOLD_REQUIRE_DATA=1
    for test in "$work"/tests/*; do
        echo "== tests: $(basename "$test")"
        # One at a time: drivers misbehave on parallel devices.
        (cd "$work/repository" && "$test" --test-threads=1)
        outcome "tests: $(basename "$test")" $?
    done
fi

if wanted bench; then
    quick=()
    [ "$device" = gpu ] || quick=(--quick)
    if "$work/bin/gatefold" bench --help | grep -q -- --record; then
        for set in deepbench flashrnn stacked audio basecall; do
            # The long sets would take hours where arithmetic is the CPU's.
            if [ "$device" = software ] && [ "$set" != audio ]; then not_run "bench: $set" "software adapter"; continue; fi
            "$work/bin/gatefold" bench --device "$device" --set "$set" --record "$work/record" "${quick[@]}"
            outcome "bench: $set" $?
        done
    else
        "$work/bin/gatefold" bench --device "$device" "${quick[@]}"
        outcome "bench" $?
    fi
fi

if wanted criterion; then
    for bench in "$work"/benches/*; do
        [ "$device" = gpu ] && short=() || short=(--sample-size 10 --warm-up-time 0.5 --measurement-time 1)
        (cd "$work" && GATEFOLD_BENCH_DEVICE=$device "$bench" --bench "${short[@]}")
        outcome "criterion: $(basename "$bench")" $?
    done
fi

if wanted peers; then
    python=${PEERS_PYTHON:-python3}
    if ! "$python" -c 'import torch, numpy, onnx, safetensors' 2>&1; then
        not_run peers "$python lacks torch, numpy, onnx or safetensors"
    else
        [ "$device" = gpu ] && short=() || short=(--shapes 64,1,25 --rounds 1 --budget 100)
        "$python" "$work/repository/peers/run.py" --no-build --adapter "$device" --record "$work/record" "${short[@]}" \
            --peers pytorch-cudnn pytorch-cudnn-f16 pytorch-cpu onnxruntime-cpu
        outcome peers $?
    fi
fi

tar -C "$work/record" -czf "$OUT/record.tar.gz" .
echo "== summary"
cat "$OUT/summary"
exit $failed
