#!/usr/bin/env bash
# Compiles the kernels that plans choose for GPUs that are not here, and checks the code that comes out.
#   tests/static_gpu/run.sh             checks, and compares with the record
#   tests/static_gpu/run.sh --record    checks, and writes the record: benches/record/static-gpu/
# For AMD's chips by RADV's device without hardware: Mesa 25 (Debian trixie); Mesa 26 has none. For NVIDIA's by clang and ptxas,
# a package of PyPI. Neither needs root. Exit code 3: one of them cannot be had here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gatefold
mesa=${GATEFOLD_MESA25:-$cache/mesa25}
nvcc=${GATEFOLD_NVCC:-$cache/nvcc}
ptxas=$nvcc/nvidia/cuda_nvcc/bin/ptxas
here=tests/static_gpu record=benches/record/static-gpu
none() { printf '%s\n' "$*" >&2; exit 3; }

tests/debian_mesa.sh trixie radeon "$mesa" || exit 3
command -v clang >/dev/null || none "expected clang (Debian: clang)"
if [ ! -x "$ptxas" ]; then
    mkdir -p "$nvcc"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$nvcc" nvidia-cuda-nvcc-cu12==12.9.86 >&2 ||
        none "expected pip and PyPI's nvidia-cuda-nvcc-cu12"
    python3 -m zipfile -e "$nvcc"/*.whl "$nvcc"
    rm "$nvcc"/*.whl
    chmod +x "$ptxas"
fi
cargo build --quiet --workspace --all-features --bin static_gpu
program=${CARGO_TARGET_DIR:-target}/debug/static_gpu
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

failed=no
for chip in navi21 navi31 gfx1201 vega20; do
    MESA_SHADER_CACHE_DISABLE=1 RADV_FORCE_FAMILY=$chip XDG_RUNTIME_DIR=$work \
        tests/debian_mesa.sh trixie radeon "$mesa" "$program" amd $chip $here/limits.csv "$work/$chip.csv" || failed=yes
done
# The limits for NVIDIA are those of one compiler.
nvidia=(sm_80 sm_90)
if ! clang --version | head -n 1 | grep -q ' version 14\.'; then
    printf 'NOT RUN: kernels for NVIDIA, whose limits are those of clang 14; here is %s\n' "$(clang --version | head -n 1)"
    nvidia=()
fi
jobs=()
for chip in "${nvidia[@]}"; do
    mkdir "$work/$chip"
    "$program" nvidia $chip $here/limits.csv "$work/$chip.csv" clang "$ptxas" $here/nvidia "$work/$chip" &
    jobs+=($!)
done
for job in ${jobs[@]+"${jobs[@]}"}; do wait "$job" || failed=yes; done

if [ "${1:-}" = --record ]; then
    [ $failed = no ] || { printf 'nothing is recorded\n' >&2; exit 1; }
    mkdir -p $record
    cp "$work"/*.csv $record
else
    for chip in navi21 navi31 gfx1201 vega20 "${nvidia[@]}"; do
        # The first line names the compiler.
        if [ "$(head -n 1 "$work/$chip.csv")" != "$(head -n 1 $record/$chip.csv)" ]; then
            printf 'NOT COMPARED with the record, which is of another compiler: %s\n' "$(head -n 1 "$work/$chip.csv")"
        elif ! diff -q "$work/$chip.csv" $record/$chip.csv >/dev/null; then
            printf '%s: not as recorded; after a change of kernels: %s --record\n' $chip "$here/run.sh"
            failed=yes
        fi
    done
fi
[ $failed = no ] || exit 1
