#!/usr/bin/env bash
# Runs all tests and benchmarks on this machine's GPU; packed by benches/gpu-run.sh, needs no Rust.
#
#   OUT=results ./run.sh [--software] [--limit SECONDS] [--only tests|bench|tune|criterion|peers]...
#
# The parts run in this order; --only takes some. All ends within --limit (570 s): each part gets what is left, a part that
# does not end in time is stopped and reported. --software takes a software adapter (lavapipe) and shorter runs: it
# shows that the kit works, not how fast a GPU is.
# In $OUT (./out), kept up to date from part to part: log, the whole output; summary, a line per part; record.tar.gz, for
# benches/gpu-run.sh fetch. The exit code is 1 if a test or a benchmark failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
device=gpu
limit=570
only=()
while [ $# -gt 0 ]; do
    case "$1" in
        --software) device=software ;;
        --limit) limit=${2:?--limit: expected seconds}; shift ;;
        --only)
            case "${2:-}" in
                tests | bench | tune | criterion | peers) only+=("$2") ;;
                *) echo "--only: expected tests, bench, tune, criterion or peers, got ${2:-nothing}" >&2; exit 2 ;;
            esac
            shift ;;
        *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done
[[ $limit =~ ^[1-9][0-9]*$ ]] || { echo "--limit: expected seconds, got $limit" >&2; exit 2; }
mkdir -p "${OUT:=out}"
OUT=$(cd "$OUT" && pwd)
exec > >(tee "$OUT/log") 2>&1
: >"$OUT/summary"
failed=0

# Whether a part is to be run: wanted PART, or PART PACKED-AS
wanted() {
    [ ${#only[@]} = 0 ] || [[ " ${only[*]} " == *" $1 "* ]] || return 1
    grep -qx "${2:-$1}" "$work/parts" || { say "NOT RUN  $1: the kit was built without"; return 1; }
}
# Adds a line to the summary and updates the archive of the results.
say() {
    echo "$*" >>"$OUT/summary"
    echo "-- $*"
    tar -C "$work/record" -czf "$work/record.tar.gz" . && mv "$work/record.tar.gz" "$OUT/record.tar.gz"
}
left() { echo $((limit - SECONDS)); }

# Runs a command in the time that is left, at most so much of it: part NAME SECONDS COMMAND...
part() {
    local name=$1 most=$2 time begun=$SECONDS code
    shift 2
    time=$(left)
    [ "$time" -le "$most" ] || time=$most
    if [ "$time" -le 0 ]; then say "NOT RUN  $name: no time left"; return; fi
    echo "== $name"
    timeout --kill-after=5 "$time" "$@"
    code=$?
    case $code in
        0) say "passed   $name: $((SECONDS - begun)) s" ;;
        124 | 137) say "STOPPED  $name: after $((SECONDS - begun)) s" ;;
        *) say "FAILED   $name: exit code $code"; failed=1 ;;
    esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unpack() {
    if command -v xz >/dev/null; then
        tar -xJf "$here/kit.tar.xz" -C "$work"
    else
        python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$here/kit.tar.xz" "$work"
    fi
}
unpack || { echo "cannot unpack $here/kit.tar.xz"; exit 1; }
mkdir -p "$work/shared" "$work/record"
[ ! -d "$work/data" ] || mv "$work/data" "$work/shared/data"
export GATEFOLD_REPOSITORY=$work/repository XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp} XDG_CACHE_HOME=$work/cache
commit=$(cat "$work/commit")
export GATEFOLD_COMMIT=$commit
gatefold=$work/bin/gatefold

# The loader and the driver, where the machine does not know of them itself.
if ! ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
    export LD_LIBRARY_PATH=$work/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -z "${VK_DRIVER_FILES:-}" ] && [ "$device" = gpu ] && [ -f "$nvidia" ] && ! ls /usr/share/vulkan/icd.d/*nvidia* /etc/vulkan/icd.d/*nvidia* >/dev/null 2>&1; then
    export VK_DRIVER_FILES=$nvidia
fi

echo "== gatefold $commit on $(uname -srm), $(nproc) cores"
if command -v nvidia-smi >/dev/null; then nvidia-smi; fi
"$gatefold" devices --device "$device" || { say "FAILED   everything: no such device"; exit 1; }

if wanted tests; then
    export GATEFOLD_TEST_DEVICE=$device
    [ ! -d "$work/shared/data" ] || export GATEFOLD_REQUIRE_DATA=1
    cd "$work/repository" || exit 1
    # The test suite runs first, because its results on this machine are the least known.
    for test in suite $(cd "$work/tests" && ls | grep -vx suite); do
        # One at a time: drivers misbehave on parallel devices.
        part "tests: $test" "$limit" "$work/tests/$test" --test-threads=1
        case $test in
        keras | onnx | pytorch) part "tests: $test, the long ones" "$limit" "$work/tests/$test" --test-threads=1 --ignored on_device:: ;;
        esac
    done
    cd "$work" || exit 1
fi

if wanted bench; then
    bench() { part "bench: $1" 150 "$gatefold" bench --device "$device" --record "$work/record" "${@:2}"; }
    if [ "$device" = gpu ]; then
        strategies=()
        for hidden in 64 128 256 512 1024; do strategies+=(--shape "hidden=$hidden,steps=100"); done
        for strategy in step sequence resident; do strategies+=(--strategy $strategy); done
        bench strategies "${strategies[@]}" --budget 5 --plot "$OUT/strategies.svg"
        for set in audio flashrnn stacked basecall deepbench; do bench $set --set $set --budget 5; done
    else
        # The other sets would take hours where arithmetic is the CPU's.
        bench audio --set audio --quick --plot "$OUT/audio.svg"
        for set in flashrnn stacked basecall deepbench; do say "NOT RUN  bench: $set: software adapter"; done
    fi
fi

if wanted tune bench; then
    quick=()
    [ "$device" = gpu ] || quick=(--steps 10 --runs 2)
    part tune 90 "$gatefold" tune --device "$device" --batch 1 --batch 16 "${quick[@]}" --out "$OUT/tuning.json"
fi

if wanted peers; then
    python=${PEERS_PYTHON:-python3}
    if ! "$python" -c 'import torch, numpy, onnx, safetensors'; then
        say "NOT RUN  peers: $python lacks torch, numpy, onnx or safetensors"
    else
        shapes=(256,1,50 512,1,50 1024,1,50 1024,4,50 512,16,50)
        ours=(--on gpu --rounds 2 --budget 300 --peers pytorch-cudnn pytorch-cudnn-f16)
        # If this part runs alone, there is time for more.
        [ "${only[*]}" != peers ] || shapes+=(64,1,50 128,1,50 1024,1,1000 256,4,50 512,4,50 256,16,50 1024,16,50)
        [ "$device" = gpu ] || { shapes=(64,1,25); ours=(--rounds 1 --budget 100 --peers pytorch-cpu); }
        part peers "$limit" "$python" "$work/repository/peers/run.py" --no-build --adapter "$device" \
            --record "$work/record" --timeout 60 --shapes "${shapes[@]}" "${ours[@]}"
    fi
fi

if wanted criterion; then
    short=(--warm-up-time 0.5 --measurement-time 1)
    [ "$device" = gpu ] || short+=(--sample-size 10)
    export GATEFOLD_BENCH_DEVICE=$device
    for bench in "$work"/criterion/*; do
        part "criterion: $(basename "$bench")" 90 "$bench" --bench "${short[@]}"
    done
fi

echo "== summary, after $SECONDS s"
cat "$OUT/summary"
exit $failed
