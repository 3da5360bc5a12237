//! Figures derived from the times of one measurement.

use super::measure::Measurement;
use crate::stats::Summary;

/// Rates use the median GPU time if there is one, otherwise the median wall time.
pub struct Figures {
    pub wall: Option<Summary>,
    pub gpu: Option<Summary>,
    /// Microseconds of wall time per timestep.
    pub per_step: Option<f64>,
    /// Two operations per multiply-add, 10^9 per second.
    pub gflops: Option<f64>,
    /// 10^9 bytes per second, by the plan's estimate.
    pub gbytes: Option<f64>,
    /// `gbytes` as a fraction of the measured copy bandwidth of the device.
    pub share: Option<f64>,
    /// Microseconds of host time per dispatch.
    pub encode: Option<f64>,
}

impl Figures {
    pub fn of(one: &Measurement) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "rates need not be exact")]
        let [steps, work, bytes, dispatches] =
            [one.shape.steps as u64, one.work, one.traffic.bytes(), one.dispatches].map(|number| number as f64);
        let (wall, gpu) = (Summary::new(&one.wall), Summary::new(&one.gpu));
        // A count per microsecond is a thousandth of 10^9 per second.
        let rate = |count: f64| gpu.or(wall).map(|time| count / time.median.max(1e-9) / 1e3);
        let gbytes = rate(bytes);
        let encode = Summary::new(&one.encode).filter(|_| one.dispatches > 0);
        Self {
            wall,
            gpu,
            per_step: wall.map(|wall| wall.median / steps),
            gflops: rate(2.0 * work),
            gbytes,
            share: gbytes.zip(one.place.bandwidth).map(|(used, most)| used * 1e9 / most),
            encode: encode.map(|encode| encode.median / dispatches),
        }
    }
}
