#!/usr/bin/env bash
# Runs the CPU device's randomized tests on NEON, from an x86-64 Debian, in QEMU. It checks results, not speed.
#   tests/neon.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! { command -v qemu-aarch64 && command -v aarch64-linux-gnu-gcc; } >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross
fi
target=aarch64-unknown-linux-gnu
rustup target add "$target"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
cargo test --package gatefold --all-features --target "$target" --lib -- cpu::
GATEFOLD_TEST_DEVICE=cpu GATEFOLD_TEST_INSTRUCTIONS=neon \
    cargo test --package gatefold --all-features --target "$target" --test suite -- on_device:: pure::cpu
