//! PyTorch's names of recurrent modules in a `state_dict`, stored as safetensors.
//!
//! A file without gatefold's description is read if all it holds is one recurrent module:
//! `nn.LSTM`, `nn.GRU`, `nn.RNN`, or `nn.LSTMCell`, `nn.GRUCell`, `nn.RNNCell`, under any prefix or
//! none. Everything follows from names and shapes: the cell, the sizes, `num_layers`,
//! `bidirectional`, `bias`, `proj_size`. What PyTorch does not store has its default: time-major
//! arrays (`batch_first=False`), and `tanh` in an RNN. A description says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::safetensors::Contents;
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::network::{Cell, FORMAT, LayerSpec, Network, NetworkSpec, RecurrentSpec, Tensor};

const WEIGHT_IH: &str = "weight_ih";
const WEIGHT_HH: &str = "weight_hh";
const WEIGHT_HR: &str = "weight_hr";
const TENSORS: [&str; 5] = [WEIGHT_IH, WEIGHT_HH, "bias_ih", "bias_hh", WEIGHT_HR];

/// Shapes of tensors by their names.
pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

/// Reads the recurrent module under `prefix` (`encoder.rnn`; empty for bare names) from a
/// safetensors file, which may hold other tensors too. Its layer is called as the prefix, or as its
/// cell without one.
///
/// # Errors
/// [`Error::Malformed`] if there is no such module, [`Error::TensorShape`] and
/// [`Error::MissingTensor`] if its tensors do not fit together; [`Error::Io`] if the file cannot
/// be read.
pub fn recurrent(path: impl AsRef<Path>, prefix: &str) -> Result<Network> {
    let path = path.as_ref();
    let bytes = files::read(path)?;
    let name = path.display().to_string();
    let contents = Contents::parse(&name, &bytes)?;
    let modules = modules(&contents.shapes());
    match modules.iter().find(|module| module.prefix == prefix) {
        Some(module) => network(module, &contents),
        None => Err(Error::Malformed {
            what: name,
            expected: format!("tensors of a recurrent module under `{prefix}`"),
            got: found(&modules, &contents.shapes()),
        }),
    }
}

/// The network of a file without a description, if one recurrent module is all it holds; else what
/// recurrent modules it holds, in words.
pub(super) fn undescribed(contents: &Contents<'_>) -> Result<Result<Network>, String> {
    let shapes = contents.shapes();
    let modules = modules(&shapes);
    match modules.as_slice() {
        [module] if module.tensors.len() == shapes.len() => Ok(network(module, contents)),
        modules => Err(found(modules, &shapes)),
    }
}

/// Names in `shapes` that stand for a tensor of `spec` under another name: those of a Cell module,
/// and bare names where a recurrent layer is all there is.
pub(super) fn renamed(spec: &NetworkSpec, shapes: &Shapes) -> BTreeMap<String, String> {
    let modules = modules(shapes);
    let mut names = BTreeMap::new();
    for (_, layer) in spec.layers.iter().filter_map(LayerSpec::recurrent) {
        let bare = spec.layers.len() == 1 && modules.len() == 1;
        let module = modules.iter().find(|module| module.prefix == layer.name || (bare && module.prefix.is_empty()));
        if let Some(module) = module {
            names.extend(module.tensors.iter().map(|(part, name)| (name.clone(), part.canonical(&layer.name))));
        }
    }
    names
}

/// A recurrent module: what lies under one prefix.
struct Module {
    prefix: String,
    /// Names in the file.
    tensors: BTreeMap<ModuleTensor, String>,
}

/// A tensor's place in its module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ModuleTensor {
    tensor: &'static str,
    level: usize,
    reverse: bool,
}

impl ModuleTensor {
    /// `weight_ih_l0_reverse`, or `weight_ih` of a Cell module.
    fn parse(leaf: &str) -> Option<Self> {
        let tensor = TENSORS.into_iter().find(|tensor| leaf.starts_with(tensor))?;
        let rest = leaf.strip_prefix(tensor)?;
        if rest.is_empty() {
            return Some(Self { tensor, level: 0, reverse: false });
        }
        let (level, reverse) = match rest.strip_suffix("_reverse") {
            Some(level) => (level, true),
            None => (rest, false),
        };
        Some(Self { tensor, level: level.strip_prefix("_l")?.parse().ok()?, reverse })
    }

    fn canonical(self, layer: &str) -> String {
        let end = if self.reverse { "_reverse" } else { "" };
        format!("{layer}.{}_l{}{end}", self.tensor, self.level)
    }
}

fn modules(shapes: &Shapes) -> Vec<Module> {
    let mut modules: BTreeMap<&str, BTreeMap<ModuleTensor, String>> = BTreeMap::new();
    for name in shapes.keys() {
        let (prefix, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        if let Some(part) = ModuleTensor::parse(leaf) {
            modules.entry(prefix).or_default().insert(part, name.clone());
        }
    }
    modules.into_iter().map(|(prefix, tensors)| Module { prefix: prefix.into(), tensors }).collect()
}

/// The modules of a file in words.
fn found(modules: &[Module], shapes: &Shapes) -> String {
    if modules.is_empty() {
        return "no recurrent module".into();
    }
    let words = modules.iter().map(|module| match layer(module, shapes) {
        Ok((cell, spec)) => {
            format!("{} `{}` ({} -> {})", cell.name(), module.prefix, spec.input_size, spec.output_size())
        }
        Err(error) => format!("`{}` ({error})", module.prefix),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn network(module: &Module, contents: &Contents<'_>) -> Result<Network> {
    let (cell, spec) = layer(module, &contents.shapes())?;
    let tensors: Result<BTreeMap<String, Tensor>> =
        module.tensors.iter().map(|(part, name)| Ok((part.canonical(&spec.name), contents.tensor(name)?))).collect();
    let layer = LayerSpec::of_cell(cell, spec);
    let spec = NetworkSpec { format: FORMAT, layers: vec![layer], text: None, labels: Vec::new() };
    let named = |expected: String| {
        module
            .tensors
            .iter()
            .find(|(part, _)| expected.ends_with(&part.canonical("")))
            .map_or(expected.clone(), |(_, name)| name.clone())
    };
    Network::new(spec, tensors?).map_err(|error| match error {
        // With the file's own names.
        Error::TensorShape { name, expected, got } => Error::TensorShape { name: named(name), expected, got },
        other => other,
    })
}

/// Cell and options by names and shapes.
fn layer(module: &Module, shapes: &Shapes) -> Result<(Cell, RecurrentSpec)> {
    let matrix = |tensor: &'static str| {
        let part = ModuleTensor { tensor, level: 0, reverse: false };
        let name = module.tensors.get(&part).ok_or_else(|| Error::MissingTensor {
            name: part.canonical(&module.prefix),
            shape: Vec::new(),
            unexpected: Vec::new(),
        })?;
        match shapes.get(name).map(Vec::as_slice) {
            Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok([rows, columns]),
            other => Err(Error::Malformed {
                what: format!("tensor `{name}`"),
                expected: "a matrix".into(),
                got: format!("shape {:?}", other.unwrap_or_default()),
            }),
        }
    };
    let [rows, state_size] = matrix(WEIGHT_HH)?;
    let [_, input_size] = matrix(WEIGHT_IH)?;
    let has = |tensor: &str| module.tensors.keys().any(|part| part.tensor == tensor);
    let (hidden_size, proj_size) = match has(WEIGHT_HR) {
        true => (matrix(WEIGHT_HR)?[1], state_size),
        false => (state_size, 0),
    };
    let cells = [Cell::Lstm, Cell::Gru, Cell::Rnn];
    let Some(cell) = cells.into_iter().find(|cell| hidden_size.checked_mul(cell.gates()) == Some(rows)) else {
        return Err(Error::Malformed {
            what: format!("recurrent module `{}`", module.prefix),
            expected: format!("4, 3 or 1 times {hidden_size} rows in {WEIGHT_HH}"),
            got: rows.to_string(),
        });
    };
    let name = if module.prefix.is_empty() { cell.name() } else { &module.prefix };
    let levels: BTreeSet<usize> = module.tensors.keys().map(|part| part.level).collect();
    let spec = RecurrentSpec {
        num_layers: levels.len(),
        bidirectional: module.tensors.keys().any(|part| part.reverse),
        bias: has("bias_ih") || has("bias_hh"),
        proj_size,
        ..RecurrentSpec::new(name, input_size, hidden_size)
    };
    Ok((cell, spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_pytorch_writes_them() {
        let part = |leaf| ModuleTensor::parse(leaf).map(|part| part.canonical("x"));
        assert_eq!(part("weight_ih").as_deref(), Some("x.weight_ih_l0"));
        assert_eq!(part("bias_hh_l12_reverse").as_deref(), Some("x.bias_hh_l12_reverse"));
        assert_eq!(part("weight_hr_l0").as_deref(), Some("x.weight_hr_l0"));
        for other in
            ["weight", "weight_ih_", "weight_ih_l", "weight_ih_l-1", "weight_ih_lx", "weight_ihs", "bias_ih_l0_revers"]
        {
            assert_eq!(part(other), None, "{other}");
        }
    }
}
