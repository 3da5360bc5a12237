//! Nearest past states by cosine.

use std::collections::BTreeMap;

use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::data::input::Input;
use crate::device::Device;
use crate::network::{Activation, DenseSpec, FORMAT, InputKind, InputSpec, LayerSpec, Network, NetworkSpec, Tensor};
use crate::session::Session;

/// Keys that one session holds: the rows of a matrix.
const BLOCK: usize = 16_384;

/// Vectors with labels, found again by their direction: have I been here before?
///
/// A key is any vector of W numbers, such as a part of a stream's state ([`StreamPool::snapshot`](crate::StreamPool::snapshot)).
/// Keys lie on the device as the rows of matrices, and a search is a product with them; up to 16,383 of the
/// newest are in the host's memory until they fill the next matrix.
///
/// ```
/// use gatefold::{Device, StateIndex};
///
/// let mut index = StateIndex::new(&Device::cpu(), 3)?;
/// index.add(&[1.0, 0.0, 0.0, 0.0, 2.0, 0.0], &[70, 71])?;
/// let found = index.nearest(&[0.1, 3.0, 0.0], 1)?;
/// assert_eq!(found[0][0].label, 71);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug)]
pub struct StateIndex {
    device: Device,
    width: usize,
    blocks: Vec<Session>,
    /// Keys of length 1 that are in no block yet.
    newest: Vec<f32>,
    /// Of all keys in the order in which they came; `None` of one that was removed.
    labels: Vec<Option<u64>>,
    places: BTreeMap<u64, usize>,
}

/// A key that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct NearState {
    /// The label that it was added with.
    pub label: u64,
    /// Cosine of the angle to the query, -1 to 1.
    pub cosine: f32,
}

impl StateIndex {
    /// An index of keys of W `width` numbers on a device.
    ///
    /// # Errors
    /// [`Error::Option`] for a width of 0.
    pub fn new(device: &Device, width: usize) -> Result<Self> {
        if width == 0 {
            return Err(option("width", "at least 1", 0));
        }
        let (device, places) = (device.clone(), BTreeMap::new());
        Ok(Self { device, width, blocks: Vec::new(), newest: Vec::new(), labels: Vec::new(), places })
    }

    /// Adds keys `[N, W]` with a label for each. An error adds none.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of numbers, [`Error::NonFinite`], [`Error::Option`] for a key of zeros, which has no
    /// direction, or for a label that is there already; [`Error::TooLarge`]; the device's own.
    pub fn add(&mut self, keys: &[f32], labels: &[u64]) -> Result<()> {
        let mut keys = self.directions("keys", keys)?;
        if keys.len() != labels.len() * self.width {
            let expected = format!("{} labels", keys.len() / self.width);
            return Err(Error::shape("labels", expected, labels.len().to_string()));
        }
        let mut places = BTreeMap::new();
        for (&label, place) in labels.iter().zip(self.labels.len()..) {
            if self.places.contains_key(&label) || places.insert(label, place).is_some() {
                return Err(option("label", "one that is not there", label));
            }
        }
        room(|| "keys".into(), self.newest.len() + keys.len(), size_of::<f32>())?;
        // Blocks first: nothing has changed where one fails.
        let all = [std::mem::take(&mut self.newest), std::mem::take(&mut keys)].concat();
        let mut blocks = Vec::new();
        let whole = all.chunks_exact(BLOCK * self.width);
        let rest = whole.remainder().to_vec();
        for block in whole {
            match self.block(block) {
                Ok(session) => blocks.push(session),
                Err(error) => {
                    self.newest = all;
                    self.newest.truncate((self.labels.len() - self.blocks.len() * BLOCK) * self.width);
                    return Err(error);
                }
            }
        }
        self.blocks.extend(blocks);
        self.newest = rest;
        self.labels.extend(labels.iter().copied().map(Some));
        self.places.append(&mut places);
        Ok(())
    }

    /// Removes a key, so that it is found no more. Its memory stays with the index.
    ///
    /// # Errors
    /// [`Error::Option`] if no key has the label.
    pub fn remove(&mut self, label: u64) -> Result<()> {
        let place = self.places.remove(&label).ok_or_else(|| option("label", "one that is there", label))?;
        self.labels[place] = None;
        Ok(())
    }

    /// The `count` keys nearest to each of the queries `[Q, W]`, the nearest first; of equally near ones the one added
    /// first. Fewer where the index has fewer.
    ///
    /// # Errors
    /// As [`StateIndex::add`], of the queries; the device's own.
    pub fn nearest(&self, queries: &[f32], count: usize) -> Result<Vec<Vec<NearState>>> {
        let queries = self.directions("queries", queries)?;
        let rows = queries.len() / self.width;
        let mut found = vec![Vec::new(); rows];
        if rows == 0 || count == 0 {
            return Ok(found);
        }
        for (number, block) in self.blocks.iter().enumerate() {
            let output = block.run(Input::rows(&queries, [rows, self.width]), None)?;
            for (found, cosines) in found.iter_mut().zip(output.values.chunks_exact(BLOCK)) {
                self.keep(found, cosines, number * BLOCK, count);
            }
        }
        for (found, query) in found.iter_mut().zip(queries.chunks_exact(self.width)) {
            let cosine = |key: &[f32]| key.iter().zip(query).map(|(a, b)| a * b).sum();
            let cosines: Vec<f32> = self.newest.chunks_exact(self.width).map(cosine).collect();
            self.keep(found, &cosines, self.blocks.len() * BLOCK, count);
        }
        Ok(found)
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of all keys, those that were removed included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.labels.len() * self.width * size_of::<f32>()) as u64
    }

    /// Adds the best of more keys, of which the first is number `first`, to the best so far.
    fn keep(&self, found: &mut Vec<NearState>, cosines: &[f32], first: usize, count: usize) {
        let labels = self.labels[first..].iter();
        let near = labels
            .zip(cosines)
            .filter_map(|(label, &cosine)| label.map(|label| NearState { label, cosine: cosine.clamp(-1.0, 1.0) }));
        found.extend(near);
        // A stable sort: of equally near ones the first stays first.
        let far = |a: &NearState, b: &NearState| b.cosine.total_cmp(&a.cosine);
        if found.len() > count {
            // Those that are as near as the last one kept come before the others.
            let mut cosines: Vec<f32> = found.iter().map(|near| near.cosine).collect();
            let (_, &mut least, _) = cosines.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
            found.retain(|near| near.cosine >= least);
        }
        found.sort_by(far);
        found.truncate(count);
    }

    /// Vectors of length 1.
    fn directions(&self, what: &str, vectors: &[f32]) -> Result<Vec<f32>> {
        if !vectors.len().is_multiple_of(self.width) {
            let expected = format!("{} numbers each", self.width);
            return Err(Error::shape(what, expected, format!("{} in all", vectors.len())));
        }
        if let Some(index) = vectors.iter().position(|x| !x.is_finite()) {
            return Err(Error::NonFinite { name: what.into(), index, value: vectors[index] });
        }
        let mut all = Vec::with_capacity(vectors.len());
        for (number, vector) in vectors.chunks_exact(self.width).enumerate() {
            let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            if square == 0.0 {
                return Err(option(what, "numbers that are not all 0", format!("zeros in number {number}")));
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most 1")]
            all.extend(vector.iter().map(|&x| (f64::from(x) / square.sqrt()) as f32));
        }
        Ok(all)
    }

    /// A product with the keys of a block.
    fn block(&self, keys: &[f32]) -> Result<Session> {
        let input = InputSpec { name: "query".into(), kind: InputKind::Row, input_size: self.width };
        let product = DenseSpec {
            name: "keys".into(),
            in_features: self.width,
            out_features: BLOCK,
            bias: false,
            activation: Activation::Linear,
        };
        let layers = vec![LayerSpec::Input(input), LayerSpec::Dense(product)];
        let weight = Tensor::new(vec![BLOCK, self.width], keys.to_vec())?;
        let spec = NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() };
        Session::new(&self.device, &Network::new(spec, BTreeMap::from([("keys.weight".to_owned(), weight)]))?)
    }
}

fn option(option: &str, expected: &str, got: impl std::fmt::Display) -> Error {
    Error::Option { option: option.into(), expected: expected.into(), got: format!("{got}") }
}
