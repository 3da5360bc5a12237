//! Reference implementation of `shaders/attention_shares.wgsl`, `shaders/attention_sum.wgsl` and
//! `shaders/training/attention_scores_backward.wgsl`.

use super::Real;
use super::linear::dot;
use crate::base::bits;
use crate::network::{Attention, AttentionScore};

/// The sizes of a run of attention, and which keys count.
#[derive(Clone, Copy, Debug)]
pub struct AttentionRun<'a> {
    /// How queries and keys are compared.
    pub attention: Attention,
    /// B
    pub batch: usize,
    /// D
    pub embed_dim: usize,
    /// V
    pub value_dim: usize,
    /// Bits `[S, B]`, of banks `[R]`; all keys count without it.
    pub mask: Option<&'a [u32]>,
    /// Where the keys of each batch row lie in banks, if they do: their first row of `[R, D]` and how many there are.
    pub banks: Option<&'a [[u32; 2]]>,
}

/// Queries `[T, B, D]`, keys `[S, B, D]`, values `[S, B, V]` and the weight of an additive score `[D]`, or none.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInputs<'a, F> {
    /// `[T, B, D]`
    pub queries: &'a [F],
    /// `[S, B, D]`, or banks `[R, D]`.
    pub keys: &'a [F],
    /// `[S, B, V]`, or banks `[R, V]`.
    pub values: &'a [F],
    /// `[D]`, or empty.
    pub weight: &'a [F],
}

/// Gradients of what is in [`AttentionInputs`].
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionGradients<F> {
    /// `[T, B, D]`
    pub queries: Vec<F>,
    /// `[S, B, D]`
    pub keys: Vec<F>,
    /// `[S, B, V]`
    pub values: Vec<F>,
    /// `[D]`, or empty.
    pub weight: Vec<F>,
}

/// One head of one query.
struct Head {
    /// Position of its shares `[T, B, heads, S]`.
    row: usize,
    /// Batch row.
    batch_row: usize,
    /// First number of its part of the queries, of an output, of the keys' and of the values' rows.
    query: usize,
    output: usize,
    key: usize,
    value: usize,
}

impl AttentionRun<'_> {
    /// The widths of a head: of queries and keys, and of values.
    pub(crate) fn head_dims(&self) -> [usize; 2] {
        [self.embed_dim, self.value_dim].map(|width| width / self.attention.num_heads)
    }

    /// All heads of `rows` queries.
    fn heads(&self, rows: usize) -> impl Iterator<Item = Head> {
        let heads = self.attention.num_heads;
        let (embed_dim, value_dim, batch) = (self.embed_dim, self.value_dim, self.batch);
        let [of_key, of_value] = self.head_dims();
        (0..rows * heads).map(move |row| {
            let (query, head) = (row / heads, row % heads);
            Head {
                row,
                batch_row: query % batch,
                query: query * embed_dim + head * of_key,
                output: query * value_dim + head * of_value,
                key: head * of_key,
                value: head * of_value,
            }
        })
    }

    /// S for so many rows of keys: of banks, the most timesteps of a batch row, at least 1.
    pub(crate) fn steps(&self, rows: usize) -> usize {
        match self.banks {
            Some(banks) => banks.iter().map(|bank| bank[1] as usize).max().unwrap_or(0).max(1),
            None => rows / self.batch,
        }
    }

    /// Whether a key of a batch row counts.
    pub(crate) fn counts(&self, step: usize, batch_row: usize) -> bool {
        let is_there = self.banks.is_none_or(|banks| step < banks[batch_row][1] as usize);
        is_there && self.mask.is_none_or(|mask| mask[self.row(step, batch_row)] & bits::VALID != 0)
    }

    /// Place of a number of a key's or value's row.
    pub(crate) fn place(&self, step: usize, batch_row: usize, width: usize) -> usize {
        self.row(step, batch_row) * width
    }

    fn row(&self, step: usize, batch_row: usize) -> usize {
        match self.banks {
            Some(banks) => banks[batch_row][0] as usize + step,
            None => step * self.batch + batch_row,
        }
    }
}

/// The shares `[T, B, heads, S]` that the queries give the timesteps of the keys.
#[must_use]
pub fn attention_shares<F: Real>(run: &AttentionRun<'_>, inputs: &AttentionInputs<'_, F>) -> Vec<F> {
    let AttentionInputs { queries, keys, weight, .. } = *inputs;
    let steps = run.steps(keys.len() / run.embed_dim);
    let [width, _] = run.head_dims();
    let scale = F::from_f32(run.attention.scale);
    let rows = queries.len() / run.embed_dim;
    let mut shares = vec![F::default(); rows * run.attention.num_heads * steps];
    for head in run.heads(rows) {
        let query = &queries[head.query..][..width];
        let shares = &mut shares[head.row * steps..][..steps];
        let counting = || (0..steps).filter(|&step| run.counts(step, head.batch_row));
        for step in counting() {
            let key = &keys[run.place(step, head.batch_row, run.embed_dim) + head.key..][..width];
            let score = match run.attention.score {
                AttentionScore::Dot => dot(query, key),
                AttentionScore::Additive => {
                    let weight = &weight[head.key..][..width];
                    let mut sum = F::default();
                    for ((&q, &k), &w) in query.iter().zip(key).zip(weight) {
                        sum += w * (q + k).tanh();
                    }
                    sum
                }
            };
            shares[step] = score * scale;
        }
        let Some(first) = counting().next() else { continue };
        let highest = counting().fold(shares[first], |max, step| if shares[step] > max { shares[step] } else { max });
        let mut sum = F::default();
        for step in counting() {
            shares[step] = (shares[step] - highest).exp();
            sum += shares[step];
        }
        counting().for_each(|step| shares[step] = shares[step] / sum);
    }
    shares
}

/// The sums of the values with `shares` `[T, B, heads, S]`: `[T, B, V]`.
#[must_use]
pub fn attention<F: Real>(run: &AttentionRun<'_>, shares: &[F], values: &[F]) -> Vec<F> {
    let steps = run.steps(values.len() / run.value_dim);
    let [_, width] = run.head_dims();
    let rows = shares.len() / steps / run.attention.num_heads;
    let mut output = vec![F::default(); rows * run.value_dim];
    for head in run.heads(rows) {
        let output = &mut output[head.output..][..width];
        for (step, &share) in shares[head.row * steps..][..steps].iter().enumerate() {
            if run.counts(step, head.batch_row) {
                let value = &values[run.place(step, head.batch_row, run.value_dim) + head.value..][..width];
                output.iter_mut().zip(value).for_each(|(to, &x)| *to += share * x);
            }
        }
    }
    output
}

/// The gradients of what [`attention`] read, from that of its output.
#[must_use]
pub fn attention_backward<F: Real>(
    run: &AttentionRun<'_>,
    inputs: &AttentionInputs<'_, F>,
    d_output: &[F],
) -> AttentionGradients<F> {
    let AttentionInputs { queries, keys, values, weight } = *inputs;
    let shares = attention_shares(run, inputs);
    let steps = run.steps(keys.len() / run.embed_dim);
    let [of_key, of_value] = run.head_dims();
    let scale = F::from_f32(run.attention.scale);
    let zeros = |numbers: &[F]| vec![F::default(); numbers.len()];
    let mut gradients =
        AttentionGradients { queries: zeros(queries), keys: zeros(keys), values: zeros(values), weight: zeros(weight) };
    for head in run.heads(queries.len() / run.embed_dim) {
        let shares = &shares[head.row * steps..][..steps];
        let d_output = &d_output[head.output..][..of_value];
        let query = &queries[head.query..][..of_key];
        let d_query = &mut gradients.queries[head.query..][..of_key];
        let counting = || (0..steps).filter(|&step| run.counts(step, head.batch_row));
        let value_at = |step| run.place(step, head.batch_row, run.value_dim) + head.value;
        let mut d_shares = vec![F::default(); steps];
        for step in counting() {
            d_shares[step] = dot(d_output, &values[value_at(step)..][..of_value]);
            let d_value = &mut gradients.values[value_at(step)..][..of_value];
            d_value.iter_mut().zip(d_output).for_each(|(to, &d)| *to += shares[step] * d);
        }
        let mean = dot(shares, &d_shares);
        for step in counting() {
            let d_score = shares[step] * (d_shares[step] - mean) * scale;
            let at = run.place(step, head.batch_row, run.embed_dim) + head.key;
            let (key, d_key) = (&keys[at..][..of_key], &mut gradients.keys[at..][..of_key]);
            for unit in 0..of_key {
                match run.attention.score {
                    AttentionScore::Dot => {
                        d_query[unit] += d_score * key[unit];
                        d_key[unit] += d_score * query[unit];
                    }
                    AttentionScore::Additive => {
                        let value = (query[unit] + key[unit]).tanh();
                        gradients.weight[head.key + unit] += d_score * value;
                        let d_sum = d_score * weight[head.key + unit] * (F::ONE - value * value);
                        d_query[unit] += d_sum;
                        d_key[unit] += d_sum;
                    }
                }
            }
        }
    }
    gradients
}
