// The seed that the masks of a step of training are drawn from.

override SEED: u32 = 0u;              // where the seed lies in the settings

fn seed_of_step() -> vec2<u32> {
    return vec2<u32>(settings[SEED], settings[SEED + 1u]);
}
