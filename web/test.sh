#!/usr/bin/env bash
# Builds the npm package and tests it in headless Chromium and in Node: test.sh [chromium|node] ...
#
# In CI (CI=true) on Debian, Chromium and Node are installed where they are missing. `test.sh --ready` says whether everything is
# there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
chromium=${GATEFOLD_CHROMIUM:-/usr/bin/chromium}
missing=()
[ -x "$chromium" ] || missing+=(chromium)
command -v npm >/dev/null || missing+=(nodejs npm)
if [ "${1:-}" = --ready ]; then
    # shellcheck source=../tests/cross_cargo.sh
    . ../tests/cross_cargo.sh
    [ ${#missing[@]} = 0 ] && { has_target wasm32-unknown-unknown || has_debian_rust; }
    exit
fi
if [ ${#missing[@]} != 0 ]; then
    [ "${CI:-}" = true ] && command -v apt-get >/dev/null || { printf 'expected %s, not found (GATEFOLD_CHROMIUM names another Chromium)\n' "${missing[*]}" >&2; exit 3; }
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
./build.sh test-wasm
npm ci --prefix test --no-audit --no-fund --ignore-scripts --loglevel=error
# Dawn in Node takes the Vulkan driver that Chromium has.
VK_DRIVER_FILES=${VK_DRIVER_FILES:-/usr/lib/chromium/vk_swiftshader_icd.json} node test/run.mjs "$@"
