//! ONNX files: recurrent operators and the layers that exporters put around them.
//!
//! The graph is walked in the order of its data. Each value is a constant, a list of sizes, a
//! state of a recurrent layer, or an expression over the network's input whose axes are known by
//! their meaning (timestep, batch row, direction, channel). Transposing and reshaping only move
//! these labels; what computes becomes a layer. Anything else is an error that names the node.
//!
//! - Input and output come in gatefold's order, `[T, B, ..]` or `[B, T, ..]` as the graph's input
//!   has it, also where a graph has its channels before its timesteps, or an output of four axes.
//!   [`Network::file_axes`] names the graph's own axes, and
//!   [`Input::with_axes`](crate::Input::with_axes) takes an input in any order.
//! - States that the graph takes and gives are the caller's [`State`](crate::State), one entry for
//!   each recurrent layer under its node's name, in the order in which the graph computes them.
//!   How a graph packs them into tensors of its own is not kept.
//! - Other inputs are inputs of the network by their names, and other outputs, in the order of a run, are
//!   [`Output::others`](crate::Output::others).
//! - An integer input of one number, such as a sample rate, has one number in a network: [`OnnxOptions::integers`].
//! - A `Loop` or a `Scan` whose step computes an LSTM, a GRU or a plain RNN is that layer.
//! - One feature may lack its axis: it is there in a run, N = 1.
//! - `sequence_lens` that the graph takes are the caller's
//!   [`Input::with_lengths`](crate::Input::with_lengths).
//! - A graph written for one timestep or one row takes any number of them.
//!
//! Format: <https://github.com/onnx/onnx/blob/main/docs/IR.md>; operators:
//! <https://onnx.ai/onnx/operators/>.

mod array;
mod attention;
mod build;
mod cell;
mod choices;
mod concat;
mod constants;
mod dims;
mod dropout;
mod elementwise;
mod expression;
mod external;
mod graph;
mod heads;
mod layers;
mod loops;
mod masks;
mod operators;
mod outputs;
mod proto;
mod quantized;
mod rearrange;
mod recurrent;
mod reductions;
mod regroup;
mod roles;
mod rows;
mod shapes;
mod slices;
mod states;
mod survey;
mod unrolled;
mod value;
mod walk;
mod windows;
mod words;

use std::path::Path;

pub use self::choices::OnnxOptions;

use prost::Message;
use prost::bytes::{Buf, Bytes};

use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::Survey;
use crate::network::Network;

/// Reads a network from an ONNX file; tensors may lie in other files in its folder.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Malformed`] if it is no ONNX model or its
/// external data are not where it says,
/// [`Error::Unsupported`] for what gatefold does not do, and what [`Network::new`] refuses.
pub fn load(path: &Path) -> Result<Network> {
    load_with(path, &OnnxOptions::default())
}

/// As [`load`], with options.
///
/// # Errors
/// As [`load`], and [`Error::Malformed`] for a number of an input that there is not.
pub fn load_with(path: &Path, options: &OnnxOptions) -> Result<Network> {
    walk::network(&graph_of(path)?, options)
}

/// Reads a network from the bytes of an ONNX file, called `name` in errors.
///
/// # Errors
/// As [`load`]; external data are [`Error::Unsupported`].
pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Network> {
    from_bytes_with(name, bytes, &OnnxOptions::default())
}

/// As [`from_bytes`], with options.
///
/// # Errors
/// As [`load_with`]; external data are [`Error::Unsupported`].
pub fn from_bytes_with(name: &str, bytes: &[u8], options: &OnnxOptions) -> Result<Network> {
    walk::network(&graph::OnnxGraph::new(model(name, bytes)?, None)?, options)
}

/// Everything in a file that [`load`] refuses, and how much of it is read.
///
/// # Errors
/// As [`load`], where the graph itself cannot be read.
pub fn survey(path: &Path) -> Result<Survey> {
    survey::survey(&graph_of(path)?)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn graph_of(path: &Path) -> Result<graph::OnnxGraph> {
    // Its tensors are parts of these bytes, which are freed when the last of them is decoded.
    let bytes = Bytes::from(files::read(path)?);
    let model = model(&path.display().to_string(), bytes)?;
    graph::OnnxGraph::new(model, Some(folder_of(path)))
}

fn model(name: &str, bytes: impl Buf) -> Result<proto::ModelProto> {
    let start = bytes.chunk();
    if start.is_empty() {
        return Err(malformed(name, "an ONNX model", "an empty file".to_owned()));
    }
    super::foreign::refuse(name, start)?;
    let length = start.len();
    proto::ModelProto::decode(bytes)
        .map_err(|error| malformed(name, "an ONNX model", format!("{length} bytes: {error}")))
}

fn malformed(what: impl Into<String>, expected: impl Into<String>, got: String) -> Error {
    Error::Malformed { what: what.into(), expected: expected.into(), got }
}

fn unsupported(place: impl Into<String>, what: impl Into<String>) -> Error {
    Error::Unsupported { place: place.into(), what: what.into() }
}
