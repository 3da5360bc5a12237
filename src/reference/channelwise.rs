//! Twin of `shaders/channelwise.wgsl`.

use super::{Real, activate};
use crate::network::Activation;

/// `activation((x - mean) * scale + offset)` with a mean, a scale and an offset for each channel
/// of `x` `[M, N]`; `channels` `[3, N]` holds them in this order.
pub fn channelwise<F: Real>(x: &[F], channels: &[F], activation: Activation) -> Vec<F> {
    let features = channels.len() / 3;
    let (mean, rest) = channels.split_at(features);
    let (scale, offset) = rest.split_at(features);
    x.iter()
        .enumerate()
        .map(|(at, &x)| {
            let channel = at % features;
            activate(activation, (x - mean[channel]) * scale[channel] + offset[channel])
        })
        .collect()
}
