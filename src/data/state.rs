//! The state that is passed from run to run.

use crate::base::Real;
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::network::{Cell, Network, RecurrentSpec};

/// The state of every recurrent layer of a network between two runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State<F = f32> {
    /// One entry per recurrent layer, in the network's order.
    pub layers: Vec<LayerState<F>>,
}

/// The state of one recurrent layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerState<F = f32> {
    /// The layer's name.
    pub name: String,
    /// `[L*D, B, H]`, or `[L*D, B, P]` with a projection; row `level * D + direction`.
    pub h_shape: [usize; 3],
    /// Hidden state h.
    pub h: Vec<F>,
    /// `[L*D, B, H]`, or `[L*D, B, 0]` for a cell without c (GRU, RNN).
    pub c_shape: [usize; 3],
    /// Cell state c.
    pub c: Vec<F>,
}

impl<F: Real> State<F> {
    /// All zeros.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if this machine has no memory for it.
    pub fn zeros(network: &Network, batch: usize) -> Result<Self> {
        let mut state = Self { layers: Vec::new() };
        Self::make_room(network, batch)?;
        state.shape(network, batch);
        Ok(state)
    }

    /// The state that a run starts from when none is given: what the network stores, else zeros.
    ///
    /// # Errors
    /// As [`State::zeros`].
    pub fn initial(network: &Network, batch: usize) -> Result<Self> {
        let mut state = Self::zeros(network, batch)?;
        state.put_stored(network, batch);
        Ok(state)
    }

    /// An error if there is no memory for `batch` rows.
    pub(crate) fn make_room(network: &Network, batch: usize) -> Result<()> {
        let width: usize = network
            .recurrent_layers()
            .flat_map(|(cell, layer)| shapes(cell, layer, 1))
            .map(|[rows, _, width]| rows * width)
            .sum();
        room(|| format!("state of {batch} rows"), batch.saturating_mul(width), size_of::<F>())
    }

    /// Becomes [`State::initial`] without a new allocation if its memory is large enough.
    pub(crate) fn start(&mut self, network: &Network, batch: usize) {
        self.shape(network, batch);
        for layer in &mut self.layers {
            layer.h.fill(F::default());
            layer.c.fill(F::default());
        }
        self.put_stored(network, batch);
    }

    /// Becomes a state of `batch` rows, with any numbers.
    pub(crate) fn shape(&mut self, network: &Network, batch: usize) {
        let empty =
            || LayerState { name: String::new(), h_shape: [0; 3], h: Vec::new(), c_shape: [0; 3], c: Vec::new() };
        self.layers.resize_with(network.recurrent_layers().count(), empty);
        for (layer, (cell, spec)) in self.layers.iter_mut().zip(network.recurrent_layers()) {
            layer.name.clone_from(&spec.name);
            [layer.h_shape, layer.c_shape] = shapes(cell, spec, batch);
            for (numbers, shape) in [(&mut layer.h, layer.h_shape), (&mut layer.c, layer.c_shape)] {
                numbers.resize(shape.iter().product(), F::default());
            }
        }
    }

    /// Replaces the zeros with the initial state that the network stores.
    fn put_stored(&mut self, network: &Network, batch: usize) {
        for (layer, (_, spec)) in self.layers.iter_mut().zip(network.recurrent_layers()) {
            if !spec.initial_state {
                continue;
            }
            let LayerState { h_shape, h, c_shape, c, .. } = layer;
            for (part, numbers, [_, _, width]) in [("h", h, *h_shape), ("c", c, *c_shape)] {
                let stored = network.weight(&format!("{}.initial_{part}", spec.name));
                if stored.is_empty() || width == 0 {
                    continue;
                }
                // `[L*D, H]`, the same for every batch row.
                for (rows, stored) in numbers.chunks_exact_mut(batch * width).zip(stored.chunks_exact(width)) {
                    for row in rows.chunks_exact_mut(width) {
                        for (number, &stored) in row.iter_mut().zip(stored) {
                            *number = F::from_f32(stored);
                        }
                    }
                }
            }
        }
    }
}

impl State {
    /// Becomes a copy of a state of the same shape.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        for (to, from) in self.layers.iter_mut().zip(&other.layers) {
            to.h.copy_from_slice(&from.h);
            to.c.copy_from_slice(&from.c);
        }
    }

    /// One batch row as a state of its own.
    pub(crate) fn row(&self, row: usize) -> Self {
        let of = |numbers: &[f32], [levels, batch, width]: [usize; 3]| {
            let rows = (0..levels).flat_map(|level| &numbers[(level * batch + row) * width..][..width]);
            ([levels, 1, width], rows.copied().collect())
        };
        let layers = self.layers.iter().map(|layer| {
            let (h_shape, h) = of(&layer.h, layer.h_shape);
            let (c_shape, c) = of(&layer.c, layer.c_shape);
            LayerState { name: layer.name.clone(), h_shape, h, c_shape, c }
        });
        Self { layers: layers.collect() }
    }
}

/// A part of the state of one batch row: h or c of one direction of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartShape {
    /// Position of the layer among the network's recurrent layers.
    pub layer: usize,
    /// Row of the state `[L*D, B, H]`.
    pub row: usize,
    /// Whether it is c.
    pub cell: bool,
    /// How many numbers it has.
    pub width: usize,
}

impl PartShape {
    /// Every part of a network's state: by layer, row, h before c.
    pub fn all(network: &Network) -> Vec<Self> {
        let mut parts = Vec::new();
        for (layer, (cell, spec)) in network.recurrent_layers().enumerate() {
            let [[rows, _, h], [.., c]] = shapes(cell, spec, 1);
            for row in 0..rows {
                let both = [(false, h), (true, c)].into_iter().filter(|&(_, width)| width > 0);
                parts.extend(both.map(|(cell, width)| Self { layer, row, cell, width }));
            }
        }
        parts
    }

    /// Its numbers in a state of `batch` rows, `[B, H]`.
    pub fn of(self, state: &State, batch: usize) -> &[f32] {
        let layer = &state.layers[self.layer];
        let numbers = if self.cell { &layer.c } else { &layer.h };
        &numbers[self.row * batch * self.width..][..batch * self.width]
    }

    /// As [`PartShape::of`], to be changed.
    pub fn of_mut(self, state: &mut State, batch: usize) -> &mut [f32] {
        let layer = &mut state.layers[self.layer];
        let numbers = if self.cell { &mut layer.c } else { &mut layer.h };
        &mut numbers[self.row * batch * self.width..][..batch * self.width]
    }
}

/// Shapes of h and c.
fn shapes(cell: Cell, layer: &RecurrentSpec, batch: usize) -> [[usize; 3]; 2] {
    let rows = layer.num_layers * layer.directions();
    let cell_size = if cell.keeps_c() { layer.hidden_size } else { 0 };
    [[rows, batch, layer.state_size()], [rows, batch, cell_size]]
}

/// An error if `state` does not fit `network`.
pub(crate) fn check(network: &Network, batch: usize, state: &State) -> Result<()> {
    let layers = network.recurrent_layers().count();
    if state.layers.len() != layers {
        let expected = format!("{layers} recurrent layers");
        return Err(Error::shape("state", expected, format!("{}", state.layers.len())));
    }
    for (got, (cell, layer)) in state.layers.iter().zip(network.recurrent_layers()) {
        let [h_shape, c_shape] = shapes(cell, layer, batch);
        let parts = [("h", got.h_shape, h_shape, got.h.len()), ("c", got.c_shape, c_shape, got.c.len())];
        for (part, got_shape, shape, len) in parts {
            if got.name != layer.name || got_shape != shape || len != shape.iter().product::<usize>() {
                return Err(Error::shape(
                    format!("state of `{}`, {part}", layer.name),
                    format!("[L*D, B, H] = {shape:?}"),
                    format!("{got_shape:?} of `{}` with {len} elements", got.name),
                ));
            }
        }
    }
    Ok(())
}
