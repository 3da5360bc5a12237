#!/usr/bin/env bash
# Builds the npm package into web/package/: build.sh [test-wasm|release]
#
# `test-wasm` is quick to build. `release` is what is published: link-time optimization, and wasm-opt where it is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
profile=${1:-release}
target=wasm32-unknown-unknown
folder=${CARGO_TARGET_DIR:-target}

# shellcheck source=../tests/cross_cargo.sh
. ../tests/cross_cargo.sh
cross_cargo $target

cargo build --locked --quiet -p bindgen --target-dir "$folder"
export RUSTFLAGS="-C target-feature=+simd128"
"${cross[@]}" build --locked -p gatefold-web --lib --profile "$profile" \
    "${build_std[@]}" --target $target --target-dir "$folder/wasm"

rm -rf package
mkdir package
"$folder/debug/bindgen" "$folder/wasm/$target/$profile/gatefold_web.wasm" package gatefold_wasm
if [ "$profile" = release ] && command -v wasm-opt >/dev/null; then
    wasm-opt -O3 --enable-simd --enable-bulk-memory --enable-sign-ext --enable-mutable-globals --enable-nontrapping-float-to-int \
        --enable-reference-types --enable-multivalue -o package/opt.wasm package/gatefold_wasm_bg.wasm
    mv package/opt.wasm package/gatefold_wasm_bg.wasm
fi
cp js/*.js js/*.ts package.json README.md ../LICENSE-APACHE ../LICENSE-MIT package/
du -b package/*.wasm
