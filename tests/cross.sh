#!/usr/bin/env bash
# Checks that the library compiles for other targets, without a warning: cross.sh [TARGET ...]
#
# wasm32-unknown-unknown where none is given. Others that are meant to work: aarch64-apple-darwin, x86_64-pc-windows-msvc and
# aarch64-linux-android, each some minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=cross_cargo.sh
. tests/cross_cargo.sh

[ $# != 0 ] || set -- wasm32-unknown-unknown
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target; do
    cross_cargo "$target"
    for features in "--no-default-features" "--features keras,onnx,ndarray"; do
        # shellcheck disable=SC2086 # two words
        "${cross[@]}" check --locked --package gatefold --lib $features "${build_std[@]}" --target "$target" \
            --target-dir "${CARGO_TARGET_DIR:-target}/cross" 2>&1 | tee "$log"
        if grep -q '^warning: .gatefold. (lib)' "$log"; then
            printf 'cross.sh: expected no warning for %s with %s\n' "$target" "$features" >&2
            exit 1
        fi
    done
done
printf '== compiles for %s\n' "$*"
