#!/usr/bin/env bash
# The GPU run kit: built here, run on a machine with a GPU and without a Rust toolchain.
#
#   benches/gpu-run.sh build [PART]...  target/gpu-kit/: run.sh and kit.tar.xz, all that the other machine needs; PART
#                                       is tests, bench (tune too), criterion or peers, and all of them by default
#   benches/gpu-run.sh try [DIR [ARG]...]  runs the packed kit here on a software adapter, as another machine would: in an
#                                       empty environment, another directory, without cargo; results in DIR; run.sh gets ARG
#   benches/gpu-run.sh fetch DIR        copies the results in DIR (the other machine's $OUT) to benches/record/
#
# On the other machine, which gets the folder target/gpu-kit (under 56 MiB): `OUT=results target/gpu-kit/run.sh`, at most
# 570 s; `--only peers` and the like take one part, `--limit` another time. The tests are built as CI builds them; what is
# timed, the command and the criterion benchmarks, is a release build. The tests of the command itself stay here: they
# look for it where cargo built it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
kit=target/gpu-kit

fail() { printf 'gpu-run.sh: %s\n' "$*" >&2; exit 1; }

# The executables of a package's targets of a kind, as "name path" lines: executables FOLDER KIND,... CARGO-ARGUMENT...
executables() {
    local folder=$1 kinds=$2
    shift 2
    cargo "$@" --message-format=json-render-diagnostics | python3 -c '
import json, pathlib, sys
folder, kinds = pathlib.Path(sys.argv[1]).resolve(), set(sys.argv[2].split(","))
for line in sys.stdin:
    message = json.loads(line)
    path = message.get("executable")
    if path and pathlib.Path(message["manifest_path"]).parent == folder and kinds & set(message["target"]["kind"]):
        print(message["target"]["name"], path)' "$folder" "$kinds"
}

# Stripped copies under DIR by their names.
take() {
    local folder=$1 name path
    mkdir -p "$folder"
    while read -r name path; do
        [ ! -e "$folder/$name" ] || fail "two executables are called $name"
        strip -o "$folder/$name" "$path"
    done
}

build() {
    local stage=target/gpu-kit-stage loader part
    for part in "$@"; do
        [[ $part =~ ^(tests|bench|criterion|peers)$ ]] || fail "expected tests, bench, criterion or peers, got $part"
    done
    packs() { [ $# -gt 1 ] && [[ " ${*:2} " == *" $1 "* ]]; }
    [ $# -gt 0 ] || set -- tests bench criterion peers
    rm -rf "$stage" "$kit"
    mkdir -p "$stage/lib" "$stage/repository" "$kit"

    # The command is always packed, because it lists the devices.
    executables cli bin build --locked --package gatefold-cli --release | take "$stage/bin"
    [ -x "$stage/bin/gatefold" ] || fail "cargo built no command"
    # The whole workspace, as CI builds it, then without the command's.
    ! packs tests "$@" || executables . lib,test test --locked --workspace --all-features --no-run | take "$stage/tests"
    ! packs criterion "$@" || executables . bench bench --locked --package gatefold --bench '*' --no-run | take "$stage/criterion"
    for part in tests criterion; do
        ! packs $part "$@" || [ -n "$(ls "$stage/$part" 2>/dev/null)" ] || fail "cargo built nothing for $part"
    done

    # What the tests read, where they look for it; the documents link to everything.
    git ls-files | tar -cf - -T - | tar -xf - -C "$stage/repository"
    if [ -d ../shared/data ]; then cp -r ../shared/data "$stage/data"; else echo "no ../shared/data: tests over it will not run"; fi

    # Of the peers only Python's, which need no build there, and gatefold's own runner to compare them with.
    git ls-files peers | grep -E '\.(py|txt)$' | tar -cf - -T - | tar -xf - -C "$stage/repository"
    if packs peers "$@"; then
        cargo build --release --locked --manifest-path peers/Cargo.toml -p peer-gatefold --target-dir target/peers-build
        mkdir -p "$stage/repository/target/peers-build/release"
        strip -o "$stage/repository/target/peers-build/release/peer-gatefold" target/peers-build/release/peer-gatefold
    fi
    printf '%s\n' "$@" >"$stage/parts"

    # Used only where the machine has none.
    loader=$(ldconfig -p | sed -n 's/.*libvulkan\.so\.1 .*x86-64.* => //p' | head -n 1)
    [ -n "$loader" ] || fail "no libvulkan.so.1 here; on Debian: apt-get install libvulkan1"
    cp -L "$loader" "$stage/lib/libvulkan.so.1"

    printf '%s%s\n' "$(git rev-parse --short HEAD)" "$([ -z "$(git status --porcelain -uno)" ] || echo +)" >"$stage/commit"
    cp benches/gpu-kit.sh "$kit/run.sh"
    tar -C "$stage" -cf - . | xz -T0 -4 >"$kit/kit.tar.xz"
    rm -rf "$stage"
    echo "$kit: $(du -sm "$kit" | cut -f1) MiB"
    # The machines lent take 64 MiB, this repository with it.
    [ "$(du -sm "$kit" | cut -f1)" -lt 56 ] || fail "expected a kit under 56 MiB; build fewer parts"
}

try() {
    local out elsewhere
    out=$(realpath -m "${1:-target/gpu-kit-try}")
    elsewhere=$(mktemp -d)
    cp "$kit/run.sh" "$kit/kit.tar.xz" "$elsewhere"
    # VK_DRIVER_FILES is how a driver that is not installed is named, PEERS_PYTHON an interpreter with torch.
    (cd / && env -i PATH=/usr/bin:/bin HOME="$elsewhere" XDG_RUNTIME_DIR="$elsewhere" OUT="$out" \
        ${VK_DRIVER_FILES:+VK_DRIVER_FILES="$VK_DRIVER_FILES"} ${PEERS_PYTHON:+PEERS_PYTHON="$PEERS_PYTHON"} \
        "$elsewhere/run.sh" --software "${@:2}") || { rm -rf "$elsewhere"; fail "the kit failed; see $out"; }
    rm -rf "$elsewhere"
}

fetch() {
    [ -f "$1/record.tar.gz" ] || fail "expected $1/record.tar.gz, which the kit's run.sh leaves in \$OUT"
    mkdir -p benches/record
    tar -xzvf "$1/record.tar.gz" -C benches/record
}

case "${1:-}" in
    build) build "${@:2}" ;;
    try) try "${@:2}" ;;
    fetch) fetch "${2:?expected the folder with the results}" ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
