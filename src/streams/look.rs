//! Single parts of a stream's state: seen, and changed.

use super::pool::StreamPool;
use super::table::StreamId;
use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::data::state::{self, PartShape, State, StatePart};

impl StreamPool {
    /// A part of a layer's state of a stream, of batch 1, by the names of [`Network::kept`](crate::Network::kept): h of an
    /// LSTM, the memory of a neural Turing machine. Other streams are not touched.
    ///
    /// # Errors
    /// As [`StreamPool::snapshot`]; [`Error::Option`] if no layer has the name, or the layer no such part.
    pub fn look(&self, id: StreamId, layer: &str, part: &str) -> Result<StatePart> {
        let mut state = self.snapshot(id)?;
        part_of(&mut state, layer, part).cloned()
    }

    /// Replaces numbers of a part of a layer's state of a stream, from number `first` of the part's data on. No other number
    /// changes, and no call that advances the stream comes between reading and writing.
    ///
    /// # Errors
    /// As [`StreamPool::look`]; [`Error::NonFinite`] for a value that is NaN or infinite, [`Error::Option`] for numbers behind the
    /// last of the part, and for weights of heads that are not from 0 to 1. Then nothing has changed.
    pub fn poke(&self, id: StreamId, layer: &str, part: &str, first: usize, values: &[f32]) -> Result<()> {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::NonFinite { name: format!("{layer}.{part}"), index, value: values[index] });
        }
        let mut inner = lock(&self.inner);
        let stream = inner.table.number(id)?;
        let number = inner.table.now(stream).state;
        let mut state = self.state_of(&self.rows(&mut inner, &[number])?, 1)?;
        let data = &mut part_of(&mut state, layer, part)?.data;
        let count = data.len();
        let range = first.checked_add(values.len()).and_then(|end| data.get_mut(first..end));
        let Some(numbers) = range else {
            return Err(Error::Option {
                option: format!("numbers of `{layer}.{part}`"),
                expected: format!("numbers 0 to {}", count.saturating_sub(1)),
                got: format!("{} from {first} on", values.len()),
            });
        };
        numbers.copy_from_slice(values);
        state::check(self.session().network(), 1, &state)?;
        let mut row = Vec::with_capacity(inner.width);
        PartShape::take_row(&PartShape::all(self.session().network()), &state, 0, &mut row);
        self.set_row(&mut inner, stream, &row)
    }
}

fn part_of<'a>(state: &'a mut State, layer: &str, part: &str) -> Result<&'a mut StatePart> {
    let parts =
        state.layers.iter().flat_map(|layer| layer.parts.iter().map(|part| format!("`{}.{}`", layer.name, part.name)));
    let expected = format!("one of {}", parts.collect::<Vec<_>>().join(", "));
    let found = state.layers.iter_mut().find(|known| known.name == layer).and_then(|layer| layer.part_mut(part));
    let got = || format!("`{layer}.{part}`");
    found.ok_or_else(|| Error::Option { option: "part of the state".into(), expected, got: got() })
}
