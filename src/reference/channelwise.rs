//! Reference implementation of `shaders/channelwise.wgsl`.

use super::{Real, activate, derivative};
use crate::network::Activation;

/// `activation((x - mean) * scale + offset)` with a mean, a scale and an offset for each channel
/// of `x` `[M, N]`; `channels` `[3, N]` holds them in this order.
pub fn channelwise<F: Real>(x: &[F], channels: &[F], activation: Activation, output: &mut Vec<F>) {
    let features = channels.len() / 3;
    let (mean, rest) = channels.split_at(features);
    let (scale, offset) = rest.split_at(features);
    output.clear();
    output.extend(x.iter().enumerate().map(|(at, &x)| {
        let channel = at % features;
        activate(activation, (x - mean[channel]) * scale[channel] + offset[channel])
    }));
}

/// The gradients of `x` `[M, N]` and of `channels` `[3, N]` of [`channelwise`], for the gradient `d_output` `[M, N]` of
/// its output. That of the mean takes the scale and the offset as given.
pub fn channelwise_backward<F: Real>(x: &[F], channels: &[F], activation: Activation, d_output: &[F]) -> [Vec<F>; 2] {
    let features = channels.len() / 3;
    let mut d_channels = vec![F::default(); channels.len()];
    let mut d_x = Vec::with_capacity(x.len());
    for (at, (&x, &d)) in x.iter().zip(d_output).enumerate() {
        let [mean, scale, offset] = [0, 1, 2].map(|part| part * features + at % features);
        let centred = x - channels[mean];
        let d_sum = d * derivative(activation, centred * channels[scale] + channels[offset]);
        d_x.push(d_sum * channels[scale]);
        d_channels[mean] += -(d_sum * channels[scale]);
        d_channels[scale] += d_sum * centred;
        d_channels[offset] += d_sum;
    }
    [d_x, d_channels]
}
