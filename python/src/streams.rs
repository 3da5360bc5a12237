//! Many streams of one network, whose states stay on the device.

use std::sync::Arc;

use gatefold::{Input, PoolOptions, StreamId, StreamPool};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{array, counts, floats, slice};
use crate::errors::{type_error, unlocked, value_error};
use crate::network::Network;
use crate::state::{GivenState, Loaded, State};

/// One stream of a `Streams`; a key of dicts.
#[pyclass(frozen, eq, hash, module = "gatefold_rnn")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stream(StreamId);

#[pymethods]
impl Stream {
    fn __repr__(&self) -> String {
        format!("<{}>", self.0)
    }
}

/// Streams of one network. Calls of several threads run one after the other, each as one batch.
#[pyclass(frozen, module = "gatefold_rnn")]
pub struct Streams {
    loaded: Arc<Loaded>,
    pool: StreamPool,
}

/// New timesteps of a stream, without a batch axis.
enum Chunk<'py> {
    Tokens(Vec<u32>),
    Features(numpy::PyReadonlyArrayDyn<'py, f32>, [usize; 2]),
}

impl<'py> Chunk<'py> {
    fn new(tokens: bool, width: usize, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        if tokens {
            let (shape, ids) = counts("chunk", value)?;
            return match shape[..] {
                [_] => Ok(Self::Tokens(ids)),
                _ => Err(value_error("chunk", "token ids [T]", format!("{shape:?}"))),
            };
        }
        let numbers = floats("chunk", value)?;
        match *numpy::PyUntypedArrayMethods::shape(&*numbers) {
            [steps, features] => Ok(Self::Features(numbers, [steps, features])),
            ref shape => Err(value_error("chunk", format!("numbers [T, {width}]"), format!("{shape:?}"))),
        }
    }

    fn input(&self, batch_first: bool) -> PyResult<Input<'_>> {
        let outer = |steps| if batch_first { [1, steps] } else { [steps, 1] };
        Ok(match self {
            Self::Tokens(ids) => Input::tokens(ids, outer(ids.len())),
            Self::Features(numbers, [steps, width]) => {
                let [outer, inner] = outer(*steps);
                Input::features(slice("chunk", numbers)?, [outer, inner, *width])
            }
        })
    }
}

#[pymethods]
impl Streams {
    /// Of a network that needs no later timesteps. `capacity` streams fit before more memory is taken; `keep_last` earlier states of
    /// each are kept for `rewind`.
    #[new]
    #[pyo3(signature = (network, capacity=1, keep_last=0))]
    fn new(py: Python<'_>, network: &Network, capacity: usize, keep_last: usize) -> PyResult<Self> {
        let loaded = network.loaded.clone();
        let options = PoolOptions { capacity, keep_last, ..PoolOptions::default() };
        let pool = unlocked(py, || StreamPool::with_options(loaded.session.clone(), options))?;
        Ok(Self { loaded, pool })
    }

    /// A new stream, in the network's initial state or in `state`, of one batch row.
    #[pyo3(signature = (state=None))]
    fn open(&self, py: Python<'_>, state: Option<&Bound<'_, PyAny>>) -> PyResult<Stream> {
        let state = state.map(|state| GivenState::new(&self.loaded, state)).transpose()?;
        let stream = unlocked(py, || self.pool.open())?;
        if let Some(state) = &state {
            let state = state.get();
            if let Err(error) = unlocked(py, || self.pool.restore(stream, state)) {
                unlocked(py, || self.pool.close(stream))?;
                return Err(error);
            }
        }
        Ok(Stream(stream))
    }

    /// Advances streams, each by its own number of timesteps, in one batch: a dict of chunks `[T, I]` (token ids `[T]`) by stream.
    /// Gives a dict of outputs `[T, N]`, or `[N]` of the last timestep where the network's output has no time axis. After an
    /// error every stream is as it was.
    fn advance<'py>(&self, py: Python<'py>, chunks: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let network = self.pool.session().network();
        let (tokens, width) = (network.num_embeddings().is_some(), network.input_size());
        let mut read = Vec::with_capacity(chunks.len());
        for (stream, chunk) in chunks {
            let Ok(stream) = stream.cast_into::<Stream>() else {
                return Err(type_error("advance", "a dict with streams as its keys", "another key"));
            };
            read.push((stream, Chunk::new(tokens, width, &chunk)?));
        }
        let batch_first = network.batch_first();
        let inputs = read.iter().map(|(stream, chunk)| Ok((stream.get().0, chunk.input(batch_first)?)));
        let inputs = inputs.collect::<PyResult<Vec<_>>>()?;
        let answers = unlocked(py, || self.pool.advance(&inputs))?;
        let all = PyDict::new(py);
        for ((stream, _), numbers) in read.iter().zip(answers.iter()) {
            let rows = numbers.len().checked_div(answers.width()).unwrap_or(0);
            let shape = [rows, answers.width()];
            let shape = if network.output_is_sequence() { &shape[..] } else { &shape[1..] };
            all.set_item(stream, array(py, shape, numbers.to_vec())?)?;
        }
        Ok(all)
    }

    /// A second stream with the same past. Nothing is copied until they differ.
    fn fork(&self, py: Python<'_>, stream: &Stream) -> PyResult<Stream> {
        unlocked(py, || self.pool.fork(stream.0)).map(Stream)
    }

    /// The stream's state, of one batch row; it can be pickled.
    fn snapshot(&self, py: Python<'_>, stream: &Stream) -> PyResult<State> {
        Ok(State::of(&self.loaded, unlocked(py, || self.pool.snapshot(stream.0))?))
    }

    /// Puts a stream into a state of one batch row.
    fn restore(&self, py: Python<'_>, stream: &Stream, state: &Bound<'_, PyAny>) -> PyResult<()> {
        let state = GivenState::new(&self.loaded, state)?;
        let state = state.get();
        unlocked(py, || self.pool.restore(stream.0, state))
    }

    /// Puts a stream into the network's initial state.
    fn reset(&self, py: Python<'_>, stream: &Stream) -> PyResult<()> {
        unlocked(py, || self.pool.reset(stream.0))
    }

    /// Takes the last `count` changes of a stream back; `keep_last` says how many it keeps.
    #[pyo3(signature = (stream, count=1))]
    fn rewind(&self, py: Python<'_>, stream: &Stream, count: usize) -> PyResult<()> {
        unlocked(py, || self.pool.rewind(stream.0, count))
    }

    /// Closes a stream and frees what it alone held.
    fn close(&self, py: Python<'_>, stream: &Stream) -> PyResult<()> {
        unlocked(py, || self.pool.close(stream.0))
    }

    /// Number of open streams.
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        unlocked(py, || Ok(self.pool.len()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (open, device) = (self.__len__(py)?, self.loaded.session.device().info());
        Ok(format!("<Streams {open} open, {device}>"))
    }
}
