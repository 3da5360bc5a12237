// What a unit's gates of a layer-normalized cell get from the input and from the state: W x and U h, or their sum and 0.
struct GateSums {
    input: Gates,
    state: Gates,
}
