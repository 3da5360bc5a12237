//! What goes into a run and what is carried from run to run: input and state.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::network::Network;
use crate::reference::Real;

/// The input of a run, in the caller's memory.
///
/// Shapes are time-major; a network with `batch_first` reads `[B, T]` and `[B, T, I]`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// Token ids for a network that begins with an embedding.
    Tokens {
        /// Row-major ids.
        ids: &'a [u32],
        /// `[T, B]`
        shape: [usize; 2],
    },
    /// Vectors for every other network.
    Features {
        /// Row-major numbers.
        values: &'a [f32],
        /// `[T, B, I]`
        shape: [usize; 3],
    },
}

impl<'a> Input<'a> {
    /// Token ids of shape `[T, B]` (`[B, T]` with `batch_first`).
    #[must_use]
    pub fn tokens(ids: &'a [u32], shape: [usize; 2]) -> Self {
        Self::Tokens { ids, shape }
    }

    /// Vectors of shape `[T, B, I]` (`[B, T, I]` with `batch_first`).
    #[must_use]
    pub fn features(values: &'a [f32], shape: [usize; 3]) -> Self {
        Self::Features { values, shape }
    }
}

/// The state of every LSTM of a network between two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct State<F = f32> {
    /// One entry per LSTM layer, in the network's order.
    pub layers: Vec<LayerState<F>>,
}

/// The state of one LSTM layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerState<F = f32> {
    /// The layer's name.
    pub name: String,
    /// `[L*D, B, H]`, of `h` and of `c`; row `level * D + direction`.
    pub shape: [usize; 3],
    /// Hidden state h.
    pub h: Vec<F>,
    /// Cell state c.
    pub c: Vec<F>,
}

impl<F: Real> State<F> {
    /// The state a run starts from when none is given.
    #[must_use]
    pub fn zeros(network: &Network, batch: usize) -> Self {
        let layers = network
            .lstms()
            .map(|lstm| {
                let shape = [lstm.num_layers * lstm.directions(), batch, lstm.hidden_size];
                let zeros = vec![F::default(); shape.iter().product()];
                LayerState { name: lstm.name.clone(), shape, h: zeros.clone(), c: zeros }
            })
            .collect();
        Self { layers }
    }
}

/// An input that fits its network, time-major.
pub(crate) struct Checked<'a> {
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// The numbers.
    pub values: Values<'a>,
}

/// The numbers of an input, time-major.
pub(crate) enum Values<'a> {
    /// `[T, B]`
    Tokens(Cow<'a, [u32]>),
    /// `[T, B, I]`
    Features(Cow<'a, [f32]>),
}

impl<'a> Checked<'a> {
    pub fn new(network: &Network, input: Input<'a>, state: Option<&State>) -> Result<Self> {
        let batch_first = network.batch_first();
        let width = network.input_size();
        let checked = match (input, network.num_embeddings()) {
            (Input::Tokens { ids, shape }, Some(num_embeddings)) => {
                let (steps, batch) = check_shape("tokens", batch_first, &shape, None, ids.len())?;
                let tokens = time_major(ids, batch_first, batch, steps, 1);
                if let Some(at) = tokens.iter().position(|&id| id as usize >= num_embeddings) {
                    return Err(Error::TokenOutOfRange {
                        token: tokens[at],
                        row: at % batch,
                        step: at / batch,
                        num_embeddings,
                    });
                }
                Self { steps, batch, values: Values::Tokens(tokens) }
            }
            (Input::Features { values, shape }, None) => {
                let (steps, batch) = check_shape("input", batch_first, &shape, Some(width), values.len())?;
                let values = Values::Features(time_major(values, batch_first, batch, steps, width));
                Self { steps, batch, values }
            }
            (Input::Tokens { shape, .. }, None) => {
                return Err(Error::shape("input", order(batch_first, Some(width)), format!("token ids {shape:?}")));
            }
            (Input::Features { shape, .. }, Some(_)) => {
                let expected = format!("token ids {}", order(batch_first, None));
                return Err(Error::shape("input", expected, format!("vectors {shape:?}")));
            }
        };
        if let Some(state) = state {
            check_state(network, checked.batch, state)?;
        }
        Ok(checked)
    }
}

/// `[B, T, N]` as `[T, B, N]` and back: swaps the two outer dimensions.
pub(crate) fn swap_outer<T: Copy>(values: &[T], outer: usize, inner: usize, width: usize) -> Vec<T> {
    let mut swapped = Vec::with_capacity(values.len());
    for i in 0..inner {
        for o in 0..outer {
            swapped.extend_from_slice(&values[(o * inner + i) * width..][..width]);
        }
    }
    swapped
}

fn time_major<T: Copy>(values: &[T], batch_first: bool, batch: usize, steps: usize, width: usize) -> Cow<'_, [T]> {
    if batch_first && batch > 1 && steps > 1 {
        Cow::Owned(swap_outer(values, batch, steps, width))
    } else {
        Cow::Borrowed(values)
    }
}

/// T and B of an input whose shape and length agree with each other and with the network.
fn check_shape(
    what: &str,
    batch_first: bool,
    shape: &[usize],
    width: Option<usize>,
    len: usize,
) -> Result<(usize, usize)> {
    let (steps, batch) = if batch_first { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    if steps == 0 || batch == 0 || width.is_some_and(|width| shape[2] != width) {
        let expected = format!("{} with T and B at least 1", order(batch_first, width));
        return Err(Error::shape(what, expected, format!("{shape:?}")));
    }
    let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    if elements != Some(len) {
        return Err(Error::shape(what, format!("as many elements as shape {shape:?} says"), format!("{len} elements")));
    }
    Ok((steps, batch))
}

fn order(batch_first: bool, width: Option<usize>) -> String {
    let letters = if batch_first { "B, T" } else { "T, B" };
    width.map_or_else(|| format!("[{letters}]"), |width| format!("[{letters}, {width}]"))
}

fn check_state(network: &Network, batch: usize, state: &State) -> Result<()> {
    let expected: Vec<_> = State::<f32>::zeros(network, batch).layers.into_iter().map(|l| (l.name, l.shape)).collect();
    if state.layers.len() != expected.len() {
        return Err(Error::shape(
            "state",
            format!("{} LSTM layers", expected.len()),
            format!("{}", state.layers.len()),
        ));
    }
    for (layer, (name, shape)) in state.layers.iter().zip(&expected) {
        let elements: usize = shape.iter().product();
        for (part, len) in [("h", layer.h.len()), ("c", layer.c.len())] {
            if layer.name != *name || layer.shape != *shape || len != elements {
                return Err(Error::shape(
                    format!("state of `{name}`, {part}"),
                    format!("[L*D, B, H] = {shape:?}"),
                    format!("{:?} of `{}` with {len} elements", layer.shape, layer.name),
                ));
            }
        }
    }
    Ok(())
}
