#!/usr/bin/env bash
# The tables under benches/record/ again: b1, batch and cells on Mesa 25's lavapipe, cpu on one thread. Options after `--` go to run.sh.
#   peers/tables.sh [b1] [batch] [cells] [cpu] [-- --no-build --gatefold ANOTHER_CHECKOUT]
# $PEERS_LOCK names a file to hold while a table is measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

lavapipe() { # LABEL SHAPE...
    local label=$1
    shift
    eval "$(./lavapipe25.sh)"
    table --on gpu --adapter software --label "$label" --rounds 3 --budget 800 --retry-minutes 4 \
        --peers gatefold gatefold-f16 burn-wgpu onnxruntime-webgpu --shapes "$@"
}

table() {
    local lock=()
    [ -z "${PEERS_LOCK:-}" ] || lock=(flock "$PEERS_LOCK")
    "${lock[@]}" ./run.sh "$@" "${options[@]}"
}

names=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    names+=("$1")
    shift
done
options=("${@:2}")
[ ${#names[@]} -gt 0 ] || names=(b1 batch cells cpu)

for name in "${names[@]}"; do
    case $name in
        b1) lavapipe b1 64,1,50 128,1,50 256,1,25 512,1,25 ;;
        batch) lavapipe batch 64,4,25 128,4,25 128,16,25 128,32,25 256,16,25 ;;
        cells) lavapipe cells gru:128,1,25 gru:256,1,25 gru:128,16,25 rnn:128,1,25 bi:128,1,25 2x128,1,25 ;;
        cpu)
            table --on cpu --threads 1 --label engines --rounds 2 --budget 250 --retry-minutes 4 \
                --peers gatefold-cpu onnxruntime-cpu openvino pytorch-cpu rten candle tract \
                --shapes 64,1,100 128,1,100 256,1,100 512,1,100 1024,1,100 256,32,50 gru:512,16,50 gru:256,1,100 rnn:256,1,100 bi:256,1,100
            ;;
        *)
            echo "expected b1, batch, cells or cpu, got $name" >&2
            exit 2
            ;;
    esac
done
