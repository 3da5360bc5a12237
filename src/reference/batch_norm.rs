//! Batch normalization with the statistics of the batch, as training has it; with stored ones it is
//! [`channelwise`](super::channelwise()).

use super::Real;

/// Mean and variance of each channel over the rows of a batch that count.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchMoments<F> {
    /// `[N]`
    pub mean: Vec<F>,
    /// `[N]`, the sum of the squares divided by the count.
    pub variance: Vec<F>,
    /// Rows that count. Of none the mean is 0 and the variance 1.
    pub count: usize,
}

impl<F: Real> BatchMoments<F> {
    /// Those of `x` `[M, width]`; `counts` says of each row whether it counts.
    pub fn new(x: &[F], width: usize, counts: impl Fn(usize) -> bool) -> Self {
        let rows = || x.chunks_exact(width).enumerate().filter(|(row, _)| counts(*row)).map(|(_, x)| x);
        let count = rows().count();
        if count == 0 {
            return Self { mean: vec![F::default(); width], variance: vec![F::ONE; width], count };
        }
        let mean_of = |number: &dyn Fn(usize, F) -> F| {
            let mut sums = vec![F::default(); width];
            for x in rows() {
                sums.iter_mut().zip(x).enumerate().for_each(|(channel, (sum, &x))| *sum += number(channel, x));
            }
            sums.into_iter().map(|sum| sum / F::count(count)).collect::<Vec<F>>()
        };
        let mean = mean_of(&|_, x| x);
        let variance = mean_of(&|channel, x| (x - mean[channel]) * (x - mean[channel]));
        Self { mean, variance, count }
    }

    /// Mean, scale and offset `[3, N]` for [`channelwise`](super::channelwise()) from the layer's `weight` and `bias` `[N]`.
    #[must_use]
    pub fn channels(&self, eps: f32, [weight, bias]: [&[F]; 2]) -> Vec<F> {
        let scale = weight.iter().zip(self.inverse(eps)).map(|(&weight, inverse)| weight * inverse).collect();
        [self.mean.clone(), scale, bias.to_vec()].concat()
    }

    /// `1 / sqrt(variance + eps)`
    fn inverse(&self, eps: f32) -> impl Iterator<Item = F> {
        self.variance.iter().map(move |&variance| F::ONE / (variance + F::from_f32(eps)).sqrt())
    }

    /// The gradients of `x` `[M, N]`, of the weight and of the bias, from that of the output. Every row was normalized; those
    /// that count have moved the statistics too.
    pub fn backward(
        &self,
        eps: f32,
        weight: &[F],
        x: &[F],
        d_output: &[F],
        counts: impl Fn(usize) -> bool,
    ) -> [Vec<F>; 3] {
        let width = weight.len();
        let inverse: Vec<F> = self.inverse(eps).collect();
        let normal = |channel: usize, x: F| (x - self.mean[channel]) * inverse[channel];
        let (mut d_weight, mut d_bias) = (vec![F::default(); width], vec![F::default(); width]);
        for (channel, (&x, &d)) in x.iter().zip(d_output).enumerate().map(|(at, pair)| (at % width, pair)) {
            d_weight[channel] += d * normal(channel, x);
            d_bias[channel] += d;
        }
        let number = |(at, (&x, &d)): (usize, (&F, &F))| {
            let channel = at % width;
            let by_statistics = match counts(at / width) {
                true => (d_bias[channel] + normal(channel, x) * d_weight[channel]) / F::count(self.count),
                false => F::default(),
            };
            weight[channel] * inverse[channel] * (d - by_statistics)
        };
        let d_x = x.iter().zip(d_output).enumerate().map(number).collect();
        [d_x, d_weight, d_bias]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 6;
    const WIDTH: usize = 3;
    const EPS: f32 = 1e-3;

    struct Numbers {
        /// x, weight, bias
        given: [Vec<f64>; 3],
        d_output: Vec<f64>,
    }

    fn numbers() -> Numbers {
        let mut random = fastrand::Rng::with_seed(5);
        let mut many = |count: usize| (0..count).map(|_| 2.0 * random.f64() - 0.7).collect::<Vec<f64>>();
        Numbers { given: [many(ROWS * WIDTH), many(WIDTH), many(WIDTH)], d_output: many(ROWS * WIDTH) }
    }

    fn output([x, weight, bias]: &[Vec<f64>; 3], counts: impl Fn(usize) -> bool) -> Vec<f64> {
        let channels = BatchMoments::new(x, WIDTH, counts).channels(EPS, [weight, bias]);
        let mut output = Vec::new();
        super::super::channelwise(x, &channels, crate::network::Activation::Linear, &mut output);
        output
    }

    #[test]
    fn central_differences_agree() {
        let Numbers { given, d_output } = numbers();
        let all_rows = |_: usize| true;
        let some = |row: usize| row % 3 != 1;
        let one = |row: usize| row == 2;
        let no_row = |_: usize| false;
        for (at, counts) in [&all_rows as &dyn Fn(usize) -> bool, &some, &one, &no_row].into_iter().enumerate() {
            let moments = BatchMoments::new(&given[0], WIDTH, counts);
            let got = moments.backward(EPS, &given[1], &given[0], &d_output, counts);
            let value =
                |given: &[Vec<f64>; 3]| output(given, counts).iter().zip(&d_output).map(|(x, d)| x * d).sum::<f64>();
            let slope = |part: usize, element: usize| {
                let end = |h: f64| {
                    let mut given = given.clone();
                    given[part][element] += h;
                    value(&given)
                };
                (end(1e-6) - end(-1e-6)) / 2e-6
            };
            for (part, got) in got.iter().enumerate() {
                let expected: Vec<f64> = (0..got.len()).map(|element| slope(part, element)).collect();
                let largest = expected.iter().fold(1e-3f64, |most, x| most.max(x.abs()));
                let error = |got: &[f64]| {
                    got.iter().zip(&expected).fold(0.0f64, |most, (x, y)| most.max((x - y).abs())) / largest
                };
                assert!(error(got) < 1e-6, "{at}, part {part}: {:e}", error(got));
            }
            // Negative control: with the statistics as constants the gradient of x is another.
            let frozen = moments.backward(EPS, &given[1], &given[0], &d_output, no_row);
            assert_eq!(frozen[0] == got[0], at == 3);
        }
    }

    #[test]
    fn the_moments_are_of_the_rows_that_count() {
        let x = [1.0f64, 5.0, 9.0, 100.0, 3.0, 7.0];
        let moments = BatchMoments::new(&x, 2, |row| row != 1);
        assert_eq!(moments, BatchMoments { mean: vec![2.0, 6.0], variance: vec![1.0, 1.0], count: 2 });
    }
}
