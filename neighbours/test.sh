#!/usr/bin/env bash
# Builds and tests the programs beside gatefold: neighbours/test.sh [clap] [egui] [bevy]. Takes some minutes each; egui and Bevy need
# an adapter, Bevy Rust 1.97.1 (RUSTUP_TOOLCHAIN chooses one).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[ $# != 0 ] || set -- clap egui bevy
for program; do
    printf '\n== %s\n' "$program"
    case $program in
        clap | egui) cargo test --locked --manifest-path "$program/Cargo.toml" ;;
        bevy) cargo run --locked --manifest-path bevy/Cargo.toml -- --frames 300 ;;
        *) printf 'expected clap, egui or bevy, got %s\n' "$program" >&2; exit 2 ;;
    esac
done
