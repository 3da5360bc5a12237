// Zoneout in training: the share of what a unit's state was that it keeps. Reference: src/reference/zoneout.rs.

override ZONEOUT_H: f32 = 0.0;        // share of the units that keep h, 0 for none
override ZONEOUT_C: f32 = 0.0;        // the same of c
override ZONEOUT_H_LEAST: u32 = 0u;   // the smallest random number with which a unit does not keep h
override ZONEOUT_C_LEAST: u32 = 0u;   // the same of c
override ZONEOUT_DRAWN: u32 = 0u;     // 1 where units are drawn, 0 where all keep the mean
override ZONEOUT_SITE: u32 = 0u;      // which draws are those of lane 0's h

// 0 or 1 where units are drawn; `at` counts the units of all timesteps and rows.
fn drawn_share(site: u32, least: u32, at: u32) -> f32 {
    return select(0.0, 1.0, random(seed_of_step(), at, site) < least);
}

fn kept_of_h(lane: u32, at: u32) -> f32 {
    if ZONEOUT_H == 0.0 || ZONEOUT_DRAWN == 0u {
        return ZONEOUT_H;
    }
    return drawn_share(ZONEOUT_SITE | (lane << 1u), ZONEOUT_H_LEAST, at);
}

fn kept_of_c(lane: u32, at: u32) -> f32 {
    if ZONEOUT_C == 0.0 || ZONEOUT_DRAWN == 0u {
        return ZONEOUT_C;
    }
    return drawn_share(ZONEOUT_SITE | (lane << 1u) | 1u, ZONEOUT_C_LEAST, at);
}
