//! The state that is passed from run to run.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::base::Real;
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::network::{HiddenOrCell, Network, PartSpec};

/// What the layers of a network keep between two runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State<F = f32> {
    /// One entry for each layer that keeps something, as [`Network::kept`] lists them.
    pub layers: Vec<LayerState<F>>,
}

/// What one layer keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerState<F = f32> {
    /// The layer's name.
    pub name: String,
    /// Its parts: of a recurrent layer `h`, and `c` where the cell has it, of an sLSTM also `n` and `m`; of a layer with a memory these, `read`, `weights`
    /// and `memory`; of a window over time `past`.
    pub parts: Vec<StatePart<F>>,
}

/// A part of a layer's state.
#[derive(Clone, Debug, PartialEq)]
pub struct StatePart<F = f32> {
    /// Its name in the layer.
    pub name: Cow<'static, str>,
    /// `[R, B, ..]`: `[L*D, B, H]` of h and c (`[L*D, B, P]` of h with a projection), row `level * D + direction`; `[1, B, P, I]`
    /// of the last P inputs of a window.
    pub shape: StateShape,
    /// Its numbers.
    pub data: Vec<F>,
}

/// The dimensions of a part, at most eight: a run makes them without an allocation.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StateShape {
    rank: usize,
    dimensions: [usize; Self::MOST],
}

impl StateShape {
    const MOST: usize = 8;
}

impl FromIterator<usize> for StateShape {
    /// Of no more than eight; any others are left out.
    fn from_iter<T: IntoIterator<Item = usize>>(dimensions: T) -> Self {
        let mut shape = Self::default();
        for (to, dimension) in shape.dimensions.iter_mut().zip(dimensions) {
            *to = dimension;
            shape.rank += 1;
        }
        shape
    }
}

impl From<&[usize]> for StateShape {
    fn from(dimensions: &[usize]) -> Self {
        dimensions.iter().copied().collect()
    }
}

impl From<Vec<usize>> for StateShape {
    fn from(dimensions: Vec<usize>) -> Self {
        dimensions[..].into()
    }
}

impl Deref for StateShape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dimensions[..self.rank]
    }
}

impl DerefMut for StateShape {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.dimensions[..self.rank]
    }
}

impl fmt::Debug for StateShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl PartialEq<Vec<usize>> for StateShape {
    fn eq(&self, other: &Vec<usize>) -> bool {
        **self == other[..]
    }
}

impl<const N: usize> PartialEq<[usize; N]> for StateShape {
    fn eq(&self, other: &[usize; N]) -> bool {
        **self == other[..]
    }
}

impl<F> StatePart<F> {
    /// R, the rows that a batch row has in it.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// B
    #[must_use]
    pub fn batch(&self) -> usize {
        self.shape.get(1).copied().unwrap_or(0)
    }

    /// Numbers that a batch row has in one of the R rows.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.get(2..).unwrap_or_default().iter().product()
    }

    /// One of the R rows, `[B, ..]`.
    pub(crate) fn row(&self, row: usize) -> &[F] {
        let len = self.batch() * self.width();
        &self.data[row * len..][..len]
    }

    /// As [`StatePart::row`], to be changed.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [F] {
        let len = self.batch() * self.width();
        &mut self.data[row * len..][..len]
    }
}

impl<F> LayerState<F> {
    /// The part of this name, if the layer has it.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&StatePart<F>> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// As [`LayerState::part`], to be changed.
    pub fn part_mut(&mut self, name: &str) -> Option<&mut StatePart<F>> {
        self.parts.iter_mut().find(|part| part.name == name)
    }

    /// A recurrent layer's hidden state `[L*D, B, H]`; empty for another layer.
    #[must_use]
    pub fn h(&self) -> &[F] {
        self.part(HiddenOrCell::H.name()).map_or(&[], |part| &part.data)
    }

    /// An LSTM's cell state `[L*D, B, H]`; empty for a layer without one.
    #[must_use]
    pub fn c(&self) -> &[F] {
        self.part(HiddenOrCell::C.name()).map_or(&[], |part| &part.data)
    }

    /// The numbers of all parts, one after the other.
    pub fn numbers(&self) -> impl Iterator<Item = &F> {
        self.parts.iter().flat_map(|part| &part.data)
    }

    /// As [`LayerState::numbers`], to be changed.
    pub fn numbers_mut(&mut self) -> impl Iterator<Item = &mut F> {
        self.parts.iter_mut().flat_map(|part| &mut part.data)
    }

    /// h and c of a recurrent layer, to be changed; empty where there is none.
    pub(crate) fn h_and_c(&mut self) -> [&mut [F]; 2] {
        let mut parts = self.parts.iter_mut().map(|part| &mut part.data[..]);
        [parts.next().unwrap_or_default(), parts.next().unwrap_or_default()]
    }

    /// What a recurrent layer keeps in addition to h, its parts side by side: `[R, B, S*H]`.
    pub(crate) fn cells(&self) -> Vec<F>
    where
        F: Copy,
    {
        let parts = self.parts.get(1..).unwrap_or_default();
        let Some(first) = parts.first() else { return Vec::new() };
        let width = first.width();
        let rows = 0..first.rows() * first.batch();
        rows.flat_map(|row| parts.iter().flat_map(move |part| &part.data[row * width..][..width])).copied().collect()
    }

    /// Puts what [`LayerState::cells`] gives back.
    pub(crate) fn set_cells(&mut self, cells: &[F])
    where
        F: Copy,
    {
        let parts = self.parts.get_mut(1..).unwrap_or_default();
        let (count, width) = (parts.len(), parts.first().map_or(0, StatePart::width));
        for (place, part) in parts.iter_mut().enumerate() {
            let rows = part.data.chunks_exact_mut(width).zip(cells.chunks_exact(count * width));
            rows.for_each(|(to, cells)| to.copy_from_slice(&cells[place * width..][..width]));
        }
    }

    /// h, c, what was read, the weights and the memory of a layer with a memory, to be changed; empty where there is none.
    pub(crate) fn of_memory(&mut self) -> [&mut [F]; 5] {
        let mut parts = [const { None }; 5];
        for part in &mut self.parts {
            let place = ["h", "c", "read", "weights", "memory"].iter().position(|&name| name == part.name);
            if let Some(place) = place {
                parts[place] = Some(&mut part.data[..]);
            }
        }
        parts.map(Option::unwrap_or_default)
    }

    /// One of the rows of h and of c, `[B, H]`, as [`LayerState::h_and_c`].
    pub(crate) fn row_of_h_and_c(&mut self, row: usize) -> [&mut [F]; 2] {
        let [h, c, ..] = self.row_of_cells(row);
        [h, c]
    }

    /// The same, and of n and m of an sLSTM.
    pub(crate) fn row_of_cells(&mut self, row: usize) -> [&mut [F]; 4] {
        let mut parts = self.parts.iter_mut().map(|part| part.row_mut(row));
        [(); 4].map(|()| parts.next().unwrap_or_default())
    }
}

impl<F> State<F> {
    /// B; `None` for a state without layers.
    pub(crate) fn batch(&self) -> Option<usize> {
        self.parts().next().map(StatePart::batch)
    }

    /// The parts of all layers.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &StatePart<F>> {
        self.layers.iter().flat_map(|layer| &layer.parts)
    }

    /// As [`State::parts`], to be changed.
    pub(crate) fn parts_mut(&mut self) -> impl Iterator<Item = &mut StatePart<F>> {
        self.layers.iter_mut().flat_map(|layer| &mut layer.parts)
    }
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
        state.put_start(network);
        Ok(state)
    }

    /// An error if there is no memory for `batch` rows.
    pub(crate) fn make_room(network: &Network, batch: usize) -> Result<()> {
        let width: usize = parts(network).map(|part| part.rows * part.width()).sum();
        room(|| format!("state of {batch} rows"), batch.saturating_mul(width), size_of::<F>())
    }

    /// Becomes [`State::initial`] without a new allocation if its memory is large enough.
    pub(crate) fn start(&mut self, network: &Network, batch: usize) {
        self.shape(network, batch);
        self.put_start(network);
    }

    /// Becomes a state of `batch` rows, with any numbers.
    pub(crate) fn shape(&mut self, network: &Network, batch: usize) {
        self.layers.resize_with(network.kept().len(), || LayerState { name: String::new(), parts: Vec::new() });
        for (layer, spec) in self.layers.iter_mut().zip(network.kept()) {
            layer.name.clone_from(&spec.name);
            let empty = || StatePart { name: Cow::Borrowed(""), shape: StateShape::default(), data: Vec::new() };
            layer.parts.resize_with(spec.parts.len(), empty);
            for (part, spec) in layer.parts.iter_mut().zip(&spec.parts) {
                part.name = Cow::Borrowed(spec.name);
                part.shape = spec.shape(batch).collect();
                part.data.resize(part.shape.iter().product(), F::default());
            }
        }
    }

    /// Sets every number to what it is before the first timestep.
    fn put_start(&mut self, network: &Network) {
        for (part, spec) in self.parts_mut().zip(parts(network)) {
            part.data.fill(F::from_f32(spec.start));
            let stored = spec.stored.as_ref().map_or(&[][..], |name| network.weight(name));
            let (batch, width) = (part.batch(), spec.width());
            if stored.is_empty() || batch == 0 {
                continue;
            }
            // `[R, ..]`, the same for every batch row.
            for (rows, stored) in part.data.chunks_exact_mut(batch * width).zip(stored.chunks_exact(width)) {
                for row in rows.chunks_exact_mut(width) {
                    for (number, &stored) in row.iter_mut().zip(stored) {
                        *number = F::from_f32(stored);
                    }
                    if let (true, Some(&last)) = (spec.softmax, spec.dimensions.last()) {
                        row.chunks_exact_mut(last).for_each(softmax);
                    }
                }
            }
        }
    }
}

impl State {
    /// Becomes a copy of a state of the same shape.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        for (to, from) in self.parts_mut().zip(other.parts()) {
            to.data.copy_from_slice(&from.data);
        }
    }

    /// One batch row as a state of its own.
    pub(crate) fn row(&self, row: usize) -> Self {
        let of = |part: &StatePart| {
            let (batch, width) = (part.batch(), part.width());
            let rows = (0..part.rows()).flat_map(|of| &part.data[(of * batch + row) * width..][..width]);
            let mut shape = part.shape.clone();
            shape[1] = 1;
            StatePart { name: part.name.clone(), shape, data: rows.copied().collect() }
        };
        let layers = self
            .layers
            .iter()
            .map(|layer| LayerState { name: layer.name.clone(), parts: layer.parts.iter().map(of).collect() });
        Self { layers: layers.collect() }
    }
}

/// Where one of the rows of a part of the state is, for one batch row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartShape {
    /// Position of the layer among those that keep something.
    pub layer: usize,
    /// Position of the part in its layer.
    pub part: usize,
    /// Row of the part's `[R, B, ..]`.
    pub row: usize,
    /// How many numbers it has.
    pub width: usize,
}

impl PartShape {
    /// All of a network's state: by layer, row, part.
    pub fn all(network: &Network) -> Vec<Self> {
        let mut all = Vec::new();
        for (layer, spec) in network.kept().iter().enumerate() {
            let rows = spec.parts.iter().map(|part| part.rows).max().unwrap_or(0);
            for row in 0..rows {
                let parts = spec.parts.iter().enumerate().filter(|(_, part)| row < part.rows);
                all.extend(parts.map(|(part, spec)| Self { layer, part, row, width: spec.width() }));
            }
        }
        all
    }

    /// Numbers that a batch row has in all of these.
    pub fn row_width(parts: &[Self]) -> usize {
        parts.iter().map(|part| part.width).sum()
    }

    /// Puts the numbers of a batch row, part after part, behind those that are there.
    pub fn take_row(parts: &[Self], state: &State, row: usize, numbers: &mut Vec<f32>) {
        parts.iter().for_each(|part| numbers.extend_from_slice(&part.of(state)[row * part.width..][..part.width]));
    }

    /// Sets a batch row to such numbers.
    pub fn put_row(parts: &[Self], state: &mut State, row: usize, mut numbers: &[f32]) {
        for part in parts {
            let (own, rest) = numbers.split_at(part.width);
            part.of_mut(state)[row * part.width..][..part.width].copy_from_slice(own);
            numbers = rest;
        }
    }

    /// Its numbers in a state, `[B, ..]`.
    pub fn of(self, state: &State) -> &[f32] {
        state.layers[self.layer].parts[self.part].row(self.row)
    }

    /// As [`PartShape::of`], to be changed.
    pub fn of_mut(self, state: &mut State) -> &mut [f32] {
        state.layers[self.layer].parts[self.part].row_mut(self.row)
    }
}

/// A softmax in place.
fn softmax<F: Real>(numbers: &mut [F]) {
    let highest = numbers.iter().copied().fold(numbers[0], |highest, x| if x > highest { x } else { highest });
    let mut sum = F::default();
    for x in &mut *numbers {
        *x = (*x - highest).exp();
        sum += *x;
    }
    numbers.iter_mut().for_each(|x| *x = *x / sum);
}

/// The parts of all layers of a network's state.
fn parts(network: &Network) -> impl Iterator<Item = &PartSpec> {
    network.kept().iter().flat_map(|layer| &layer.parts)
}

/// A share may be this large: a quotient of equal numbers is rounded on a GPU.
const MOST_SHARE: f32 = 1.0 + 1e-5;

/// An error if `state` does not fit `network`.
pub(crate) fn check(network: &Network, batch: usize, state: &State) -> Result<()> {
    let names = |names: &mut dyn Iterator<Item = &str>| names.map(|name| format!("`{name}`")).collect::<Vec<_>>();
    if state.layers.len() != network.kept().len() {
        let expected = names(&mut network.kept().iter().map(|layer| &layer.name[..]));
        let got = names(&mut state.layers.iter().map(|layer| &layer.name[..]));
        let named = |names: Vec<String>| format!("{} layers ({})", names.len(), names.join(", "));
        return Err(Error::shape("state", named(expected), named(got)));
    }
    for (got, layer) in state.layers.iter().zip(network.kept()) {
        if got.parts.len() != layer.parts.len() {
            let expected = names(&mut layer.parts.iter().map(|part| part.name)).join(", ");
            let got = names(&mut got.parts.iter().map(|part| &part.name[..])).join(", ");
            return Err(Error::shape(format!("state of `{}`", layer.name), expected, got));
        }
        for (part, spec) in got.parts.iter().zip(&layer.parts) {
            let fits = got.name == layer.name
                && part.name == spec.name
                && part.shape.iter().copied().eq(spec.shape(batch))
                && part.data.len() == part.shape.iter().product::<usize>();
            if !fits {
                let shape: Vec<usize> = spec.shape(batch).collect();
                return Err(Error::shape(
                    format!("state of `{}`, {}", layer.name, spec.name),
                    format!("{} = {shape:?}", spec.letters),
                    format!("{} {:?} of `{}` with {} elements", part.name, part.shape, got.name, part.data.len()),
                ));
            }
            let wrong = part.data.iter().position(|share| !(0.0..=MOST_SHARE).contains(share));
            if let Some(at) = wrong.filter(|_| spec.shares) {
                let option = format!("number {at} of `{}.{}`", layer.name, spec.name);
                return Err(Error::option(&option, "a share from 0 to 1", &part.data[at]));
            }
        }
    }
    Ok(())
}
