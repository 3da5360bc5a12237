//! What the formats share: a place in a file for errors, its numbers, and a network that is built layer by layer.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::base::error::{Error, Result};
use crate::network::{
    Activation, ChannelsSpec, DenseSpec, FORMAT, FromSpec, Join, JoinSpec, LayerSpec, Network, NetworkSpec, NormSpec,
    Tensor,
};

/// The largest size of a layer that is read.
const MOST: u64 = 1 << 16;

/// A value of a file, and where it is.
#[derive(Clone)]
pub(super) struct JsonPlace<'a> {
    pub value: &'a Value,
    /// `FILE: layers[1].weights`.
    pub name: String,
}

impl<'a> JsonPlace<'a> {
    pub fn new(file: &str, value: &'a Value) -> Self {
        Self { value, name: format!("{file}: ") }
    }

    /// A field, which may be missing.
    pub fn get(&self, key: &str) -> Option<Self> {
        let dot = if self.name.ends_with(": ") { "" } else { "." };
        self.value
            .get(key)
            .filter(|value| !value.is_null())
            .map(|value| Self { value, name: format!("{}{dot}{key}", self.name) })
    }

    pub fn field(&self, key: &str) -> Result<Self> {
        self.get(key).ok_or_else(|| self.wrong(&format!("a field `{key}`"), "none"))
    }

    fn list(&self) -> Result<&'a [Value]> {
        match self.value {
            Value::Array(items) => Ok(items),
            other => Err(self.wrong("a list", &kind(other))),
        }
    }

    /// Items of a list.
    pub fn count(&self) -> Result<usize> {
        Ok(self.list()?.len())
    }

    /// The items of a list, one after the other.
    pub fn items(&self) -> Result<impl Iterator<Item = Self>> {
        let item = |(number, value)| Self { value, name: format!("{}[{number}]", self.name) };
        Ok(self.list()?.iter().enumerate().map(item))
    }

    /// The item `index` of a list.
    pub fn item(&self, index: usize) -> Result<Self> {
        let items = self.list()?;
        match items.get(index) {
            Some(value) => Ok(Self { value, name: format!("{}[{index}]", self.name) }),
            None => Err(self.wrong(&format!("at least {} items", index + 1), &items.len().to_string())),
        }
    }

    pub fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("a text", &kind(self.value)))
    }

    pub fn number(&self) -> Result<f64> {
        self.value.as_f64().ok_or_else(|| self.wrong("a number", &kind(self.value)))
    }

    /// A sample rate, which some files have as a text.
    pub fn rate(&self) -> Result<f64> {
        match self.value.as_str().map(str::parse) {
            Some(Ok(rate)) => Ok(rate),
            _ => self.number(),
        }
    }

    /// A size of a layer, at least 1.
    pub fn size(&self) -> Result<usize> {
        match self.value.as_u64() {
            Some(size @ 1..=MOST) => usize::try_from(size).map_err(|_| self.wrong("a size", &size.to_string())),
            _ => Err(self.wrong(&format!("a size from 1 to {MOST}"), &self.value.to_string())),
        }
    }

    /// Nested lists of this shape, row-major.
    pub fn numbers(&self, shape: &[usize]) -> Result<Vec<f32>> {
        let mut numbers = Vec::new();
        if !flatten(self.value, shape, &mut numbers) {
            let got = shape_of(self.value).map_or_else(|| kind(self.value), |shape| format!("{shape:?}"));
            return Err(self.wrong(&format!("numbers of shape {shape:?}"), &got));
        }
        Ok(numbers)
    }

    pub fn wrong(&self, expected: &str, got: &str) -> Error {
        Error::Malformed { what: self.name.trim_end_matches(": ").into(), expected: expected.into(), got: got.into() }
    }

    pub fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::Unsupported { place: self.name.trim_end_matches(": ").into(), what: what.into() }
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "fields",
    }
    .into()
}

/// Appends the numbers of nested lists; false if they do not have the shape.
#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
fn flatten(value: &Value, shape: &[usize], numbers: &mut Vec<f32>) -> bool {
    match (shape, value) {
        ([], Value::Number(_)) => {
            numbers.extend(value.as_f64().map(|x| x as f32));
            true
        }
        ([length, inner @ ..], Value::Array(items)) => {
            items.len() == *length && items.iter().all(|item| flatten(item, inner, numbers))
        }
        _ => false,
    }
}

/// The shape of nested lists by their first items.
fn shape_of(value: &Value) -> Option<Vec<usize>> {
    match value {
        Value::Number(_) => Some(Vec::new()),
        Value::Array(items) => {
            let inner = items.first().map_or(Some(Vec::new()), shape_of)?;
            Some(std::iter::once(items.len()).chain(inner).collect())
        }
        _ => None,
    }
}

/// A network that is built layer by layer.
#[derive(Default)]
pub(super) struct Layers {
    pub layers: Vec<LayerSpec>,
    tensors: BTreeMap<String, Tensor>,
}

impl Layers {
    pub fn tensor(&mut self, name: String, shape: &[usize], numbers: Vec<f32>) -> Result<()> {
        self.tensors.insert(name, Tensor::new(shape.to_vec(), numbers)?);
        Ok(())
    }

    /// A linear layer of weights `[N, I]` and a bias `[N]`, of which there may be none.
    pub fn dense(
        &mut self,
        name: &str,
        [inputs, outputs]: [usize; 2],
        (weight, bias): (Vec<f32>, Option<Vec<f32>>),
        activation: Activation,
    ) -> Result<()> {
        self.tensor(format!("{name}.weight"), &[outputs, inputs], weight)?;
        let spec = DenseSpec {
            name: name.into(),
            in_features: inputs,
            out_features: outputs,
            bias: bias.is_some(),
            activation,
        };
        if let Some(bias) = bias {
            self.tensor(format!("{name}.bias"), &[outputs], bias)?;
        }
        self.layers.push(LayerSpec::Dense(spec));
        Ok(())
    }

    /// Multiplies every feature, by a normalization with mean 0 and variance 1.
    pub fn scale(&mut self, name: &str, factors: Vec<f32>) -> Result<()> {
        let width = factors.len();
        self.tensor(format!("{name}.weight"), &[width], factors)?;
        self.tensor(format!("{name}.running_mean"), &[width], vec![0.0; width])?;
        self.tensor(format!("{name}.running_var"), &[width], vec![1.0; width])?;
        let spec = NormSpec { name: name.into(), num_features: width, eps: 0.0, weight: true, bias: false };
        self.layers.push(LayerSpec::BatchNorm(spec));
        Ok(())
    }

    /// Adds the first of the `width` features of an earlier layer to the output, which is one feature.
    pub fn add_feature(&mut self, earlier: &str, width: usize) {
        let last = self.layers.last().map_or_else(|| earlier.to_owned(), |layer| layer.name().to_owned());
        let mut feature = earlier.to_owned();
        if width > 1 {
            self.layers.push(LayerSpec::From(FromSpec { layer: feature }));
            feature = "sample".into();
            self.layers.push(LayerSpec::Channels(ChannelsSpec { name: feature.clone(), start: 0, count: 1 }));
        }
        let inputs = vec![last, feature];
        self.layers.push(LayerSpec::Join(JoinSpec { name: "skip".into(), inputs, join: Join::Add }));
    }

    pub fn network(self, place: &JsonPlace<'_>) -> Result<Network> {
        let spec = NetworkSpec { format: FORMAT, layers: self.layers, text: None, labels: Vec::new() };
        Network::new(spec, self.tensors).map_err(|error| match error {
            Error::NonFinite { .. } => place.wrong("finite weights", &error.to_string()),
            other => other,
        })
    }
}
