#!/usr/bin/env bash
# The one test command: everything, on every adapter of this machine.
#
# Installs Mesa's software drivers if a backend has no adapter and the system is Debian or Ubuntu.
# After that a missing adapter is an error. In CI (CI=true) the optional parts are installed too, and
# a missing part is an error. The log ends with the names of the adapters and the number of tests run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'test.sh: %s\n' "$*" >&2; exit 1; }

command -v cargo >/dev/null || fail "expected a Rust toolchain (https://rustup.rs), found no cargo"

# libEGL's Wayland part prints errors if it is unset.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# The command as built with the tests. Building it alone would compile wgpu again with fewer features.
gatefold=${CARGO_TARGET_DIR:-target}/debug/gatefold

# Adapters as "backend name" lines, software ones included.
adapters() {
    "$gatefold" devices --format json |
        sed -n 's/^ *"\(backend\|name\)": "\(.*\)",\{0,1\}$/\1 \2/p' |
        awk '$1 == "name" { sub(/^name /, ""); name = $0 } $1 == "backend" { print $2, name }' | sort -u
}

has() { adapters | grep -q "^$1 "; }

install() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    say "installing $*"
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$@"
}

install_drivers() {
    local packages=(mesa-vulkan-drivers libvulkan1 libegl1 libgl1-mesa-dri libgles2)
    command -v apt-get >/dev/null ||
        fail "no Vulkan and GL adapters; install Mesa's software drivers (lavapipe, llvmpipe), on Debian: ${packages[*]}"
    install "${packages[@]}"
}

# In CI, on a system with apt.
in_ci() { [ "${CI:-}" = true ] && command -v apt-get >/dev/null; }

# Reports a part that cannot run here. In CI this is an error, so that every part is run before a release.
not_run() {
    if in_ci; then fail "expected in CI: $1"; fi
    say "NOT RUN: $1"
}

# Runs tests with environment variables: tests [--ignored] [NAME=VALUE ...] -- [FILTER ...]
# With a filter also those that are ignored because they are slow; with --ignored those alone.
tests() {
    local environment=() nextest=() libtest=()
    if [ "$1" = --ignored ]; then nextest=(--run-ignored only) libtest=(--ignored); shift; fi
    while [ "$1" != -- ]; do environment+=("$1"); shift; done
    shift
    if [ $# != 0 ] && [ ${#libtest[@]} = 0 ]; then nextest=(--run-ignored all) libtest=(--include-ignored); fi
    if cargo nextest --version >/dev/null 2>&1; then
        local filter=()
        [ $# = 0 ] || filter=(-E "$(printf ' | test(%s)' "$@" | cut -c 4-)")
        env "${environment[@]}" cargo nextest run --workspace --all-features --no-fail-fast "${nextest[@]}" "${filter[@]}" 2>&1 | tee -a "$log"
    else
        # One test at a time: some drivers fail with several devices at once.
        env "${environment[@]}" cargo test --workspace --all-features --lib --bins --tests --no-fail-fast -- "$@" "${libtest[@]}" --test-threads=1 2>&1 |
            tee -a "$log"
    fi
}

if ! command -v curl >/dev/null && in_ci; then install curl; fi # commands of docs/serving.md
say "build"
cargo test --workspace --all-features --no-run
if [ "$(uname -s)" = Linux ] && ! { has vulkan && has gl; }; then install_drivers; fi
if [ -d ../shared/data ]; then
    export GATEFOLD_REQUIRE_DATA=1
else
    say "NOT RUN: the comparison over the 1,066 test sentences needs ../shared/data/movie-reviews, those over DTLN and Silero VAD need ../shared/data too"
fi

tested=()
everything=yes
# On further adapters, batteries of random cases and of files run about a fourth of them: the kernels are those of the first
# adapter, and software drivers take most of the time to compile them.
one_in_four=GATEFOLD_TEST_ONE_IN=4
for backend in vulkan gl metal dx12; do
    name=$(adapters | sed -n "s/^$backend //p" | head -n 1)
    [ -n "$name" ] || continue
    tested+=("$name ($backend)")
    if [ $everything = yes ]; then
        say "every test; on the device: $name ($backend)"
        tests GATEFOLD_TEST_DEVICE=$backend --
        tests --ignored GATEFOLD_TEST_DEVICE=$backend -- on_device::
        everything=no
    else
        say "tests on the device: $name ($backend); of random cases a fourth"
        tests GATEFOLD_TEST_DEVICE=$backend $one_in_four -- on_device:: on_gpu::
    fi
done
[ $everything = no ] || fail "no adapter on any backend"
for set in avx512 avx2 sse2 neon portable; do
    if "$gatefold" devices --device cpu --instruction-set $set >/dev/null 2>&1; then
        say "tests on the device: CPU, $set"
        tests GATEFOLD_TEST_DEVICE=cpu GATEFOLD_TEST_INSTRUCTIONS=$set -- on_device::
    else
        say "NOT RUN: this CPU has no $set"
    fi
done

# Chromium contains SwiftShader, whose limits are close to WebGPU's defaults.
swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
if [ ! -f $swiftshader ] && in_ci; then install chromium; fi
if [ -f $swiftshader ]; then
    tested+=("SwiftShader (vulkan)")
    say "tests on the device: SwiftShader (vulkan); of random cases a fourth"
    tests $one_in_four VK_DRIVER_FILES=$swiftshader GATEFOLD_TEST_DEVICE=vulkan:swiftshader -- on_device:: on_gpu::
else
    not_run "SwiftShader, in $swiftshader (Debian: chromium)"
fi

# Matrix units: the lavapipe of Mesa 26 has them, that of stable Debian releases does not.
mesa26=${GATEFOLD_MESA26:-${XDG_CACHE_HOME:-$HOME/.cache}/gatefold/mesa26}
if tests/mesa26.sh "$mesa26" && tests/mesa26.sh "$mesa26" "$gatefold" devices | grep '^matrix units.* 8 x 8' >/dev/null; then
    suite=$(cargo test --workspace --all-features --test suite --no-run --message-format=json 2>/dev/null |
        grep -F "\"src_path\":\"$PWD/tests/suite/main.rs\"" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
    tested+=("lavapipe of Mesa 26 (vulkan)")
    say "tests on matrix units: lavapipe of Mesa 26"
    GATEFOLD_TEST_DEVICE=vulkan GATEFOLD_REQUIRE_MATRIX=1 \
        tests/mesa26.sh "$mesa26" "$suite" --test-threads=1 on_gpu::matrix:: 2>&1 | tee -a "$log"
else
    not_run "matrix units, with Mesa 26 (Debian sid: tests/mesa26.sh; see above)"
fi

say "kernels compiled for GPUs that are not here"
if ! command -v clang >/dev/null && in_ci; then install clang; fi
if ! python3 -m pip --version >/dev/null 2>&1 && in_ci; then install python3-pip; fi
compiled=0
tests/static_gpu/run.sh || compiled=$?
case $compiled in
    0) ;;
    3) not_run "kernels for AMD and NVIDIA, with Mesa 25 (Debian trixie: tests/debian_mesa.sh), clang and PyPI's ptxas; see above" ;;
    *) fail "kernels for AMD and NVIDIA: see above" ;;
esac

say "code in the documentation"
cargo test --workspace --all-features --doc 2>&1 | tee -a "$log"
say "examples"
labels=$(cargo run --quiet --example hello)
printf '%s\n' "$labels"
[ "$(grep -cE '^(positive|negative) ' <<<"$labels")" = 2 ] || fail "expected two labels"
memory=$(mktemp -d)
for device in software cpu; do
    cargo run --quiet --example streams -- --streams 200 --seconds 0.5 --device $device
    cargo run --quiet --example store_of_states -- --streams 20000 --device-megabytes 8 --host-megabytes 16 \
        --file "$memory/pages" --returns 300 --device $device
    # Its model is trained once. A service that stops after two turns says the same words as one that does not stop.
    chat() {
        cargo run --quiet --example chat_memory -- --device $device --memory "$memory/talks" --talks 50 --epochs 2 "$@"
    }
    rm -f "$memory"/talks/{progress.txt,talks.state}
    chat | tee "$memory/whole"
    rm "$memory"/talks/{progress.txt,talks.state}
    chat --turns 2
    chat | tee "$memory/resumed"
    grep -q '^50 talks go on after turn 2' "$memory/resumed" || fail "expected talks that continued"
    [ "$(tail -1 "$memory/whole")" = "$(tail -1 "$memory/resumed")" ] || fail "expected the same words"
    cargo run --quiet --example translate -- --device $device --count 300 | tee -a "$memory/dates"
done
[ "$(grep -c 'beams: 300 of 300 dates exact' "$memory/dates")" = 2 ] || fail "expected two translations"
# This example uses the first adapter that wgpu offers.
cargo run --quiet --example own_device
rm -r "$memory"
say "the Python package"
has_python() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
if ! has_python && in_ci; then install python3 python3-venv; fi
if has_python; then
    # The extension module with GPU is built with the features of the tests, so that nothing but it is compiled.
    cargo build --workspace --all-features --lib --tests
    GATEFOLD_COMMAND=$(realpath "$gatefold") python/test.sh --library "${CARGO_TARGET_DIR:-target}/debug/lib_native.so" 2>&1 | tee -a "$log"
else
    not_run "the Python package, with Python 3.10 or later and venv (Debian: python3-venv)"
fi
say "the server, with a public client of its protocol"
if has_python; then
    serve/client.sh "$gatefold" 2>&1 | tee -a "$log"
else
    not_run "the server with tritonclient, with Python 3.10 or later and venv (Debian: python3-venv)"
fi
say "the npm package, in Chromium and in Node"
if in_ci || web/test.sh --ready; then
    tests/cross.sh wasm32-unknown-unknown
    web/test.sh 2>&1 | tee -a "$log"
else
    not_run "the npm package, with the target wasm32-unknown-unknown, Chromium and npm (web/test.sh)"
fi
say "benchmarks, once each"
GATEFOLD_BENCH_DEVICE=software cargo test --workspace --all-features --bench kernels --bench recurrent 2>&1 | tee -a "$log"
say "without a GPU at all"
cargo test --package gatefold --no-default-features --lib 2>&1 | tee -a "$log"

passed=$(sed -E 's/\x1b\[[0-9;]*m//g' "$log" |
    sed -nE 's/.* tests? run: ([0-9]+) passed.*/\1/p; s/^test result: ok\. ([0-9]+) passed.*/\1/p
        s/^== ([0-9]+) tests of the Python package passed$/\1/p
        s/^== ([0-9]+) checks with tritonclient passed$/\1/p
        s/^== ([0-9]+) checks of the npm package passed$/\1/p' |
    awk '{ sum += $1 } END { print sum + 0 }')
say "adapters: $(printf '%s; ' "${tested[@]}")"
printf '%s passed, 0 failed\n' "$passed"
