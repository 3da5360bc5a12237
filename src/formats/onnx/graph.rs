//! The graph as nodes in topological order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use prost::bytes::Bytes;

use super::array::{self, Array};
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use super::{malformed, unsupported};
use crate::base::error::{Error, Result};

/// The most nodes of a graph and of the graphs in it. No network that we know of has more, and checking more would take long.
const MAX_NODES: usize = 1 << 16;

/// How deep graphs may lie in each other (loops and branches).
const MAX_DEPTH: usize = 8;

pub struct OnnxGraph {
    pub main: SubGraph,
    pub inputs: Vec<GraphInput>,
    /// How many nodes and graph outputs read a value.
    pub uses: BTreeMap<String, usize>,
    /// ONNX data types of constants and inputs.
    pub types: BTreeMap<String, i32>,
}

/// A graph: that of the model, or one in an attribute of a node.
pub struct SubGraph {
    /// In topological order.
    pub nodes: Vec<OnnxNode>,
    pub constants: BTreeMap<String, Rc<Array>>,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// ONNX data types of constants and inputs, as far as they are stated.
    pub types: BTreeMap<String, i32>,
}

pub struct GraphInput {
    pub name: String,
    /// Whether its elements are integers.
    pub integers: bool,
    /// `None` where the size is left open.
    pub shape: Option<Vec<Option<usize>>>,
}

pub struct OnnxNode {
    /// Its name, or its first output's.
    pub name: String,
    /// What errors call it.
    pub label: String,
    pub op: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub opset: i64,
    /// Graphs among its attributes.
    pub graphs: BTreeMap<String, SubGraph>,
    /// Values around it that its graphs read.
    pub captures: BTreeSet<String>,
    attributes: BTreeMap<String, AttributeProto>,
    folder: Option<std::path::PathBuf>,
}

/// What is needed to read the nodes of any graph of a model.
struct Reader<'a> {
    opset: i64,
    folder: Option<&'a Path>,
    nodes_left: usize,
}

/// The names of the values that a graph may read.
struct Names<'a> {
    own: BTreeSet<String>,
    outer: Option<&'a Names<'a>>,
}

impl Names<'_> {
    fn has(&self, name: &str) -> bool {
        self.own.contains(name) || self.outer.is_some_and(|outer| outer.has(name))
    }

    fn depth(&self) -> usize {
        self.outer.map_or(0, |outer| outer.depth() + 1)
    }
}

impl OnnxGraph {
    pub fn new(model: ModelProto, folder: Option<&Path>) -> Result<Self> {
        let place = "ONNX model";
        let opset = opset(&model)?;
        if let Some(function) = model.functions.first() {
            return Err(unsupported(
                place,
                format!("model function `{}`", function.name.as_deref().unwrap_or_default()),
            ));
        }
        let graph = model.graph.ok_or_else(|| malformed(place, "a graph", "none".into()))?;
        let given: BTreeSet<&str> = graph.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
        let (mut inputs, mut types) = (Vec::new(), BTreeMap::new());
        for input in &graph.input {
            let name = input.name.clone().unwrap_or_default();
            if !given.contains(name.as_str()) {
                let (input, kind) = graph_input(name.clone(), input)?;
                types.insert(name, kind);
                inputs.push(input);
            }
        }
        let mut reader = Reader { opset, folder, nodes_left: MAX_NODES };
        let (mut main, _) = reader.graph(place, graph, None)?;
        main.types.extend(types);
        main.inputs = inputs.iter().map(|input| input.name.clone()).collect();
        let types = main.types.clone();
        let mut uses = BTreeMap::new();
        main.count_uses(&mut uses);
        Ok(Self { main, inputs, uses, types })
    }
}

impl SubGraph {
    fn count_uses(&self, uses: &mut BTreeMap<String, usize>) {
        for name in self.nodes.iter().flat_map(|n| &n.inputs).chain(&self.outputs) {
            *uses.entry(name.clone()).or_insert(0) += 1;
        }
        self.nodes.iter().flat_map(|n| n.graphs.values()).for_each(|graph| graph.count_uses(uses));
    }
}

impl Reader<'_> {
    /// The graph of `proto` and the values around it that it reads.
    fn graph(
        &mut self,
        place: &str,
        mut proto: GraphProto,
        outer: Option<&Names>,
    ) -> Result<(SubGraph, BTreeSet<String>)> {
        if proto.node.len() > self.nodes_left {
            return Err(malformed(place, format!("up to {MAX_NODES} nodes"), "more".into()));
        }
        self.nodes_left -= proto.node.len();
        if !proto.sparse_initializer.is_empty() {
            return Err(unsupported(place, "a sparse initializer"));
        }
        let (mut constants, mut types) = (BTreeMap::new(), BTreeMap::new());
        // Each is freed as soon as it is decoded.
        for tensor in std::mem::take(&mut proto.initializer) {
            let name = tensor.name.clone().unwrap_or_default();
            types.insert(name.clone(), tensor.data_type.unwrap_or(0));
            if constants.insert(name.clone(), Rc::new(array::decode(&tensor, self.folder)?)).is_some() {
                return Err(malformed(place, "one initializer of a name", format!("two of `{name}`")));
            }
        }
        let inputs: Vec<String> = proto.input.iter().map(|input| input.name.clone().unwrap_or_default()).collect();
        for (name, input) in inputs.iter().zip(&proto.input) {
            let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
            if let Some(kind) = tensor.and_then(|tensor| tensor.elem_type) {
                types.entry(name.clone()).or_insert(kind);
            }
        }
        let outputs: Vec<String> = proto.output.iter().map(|o| o.name.clone().unwrap_or_default()).collect();
        let given: BTreeSet<String> = constants.keys().chain(&inputs).cloned().collect();
        let mut names = Names { own: given.clone(), outer };
        if names.depth() > MAX_DEPTH {
            return Err(malformed(place, format!("graphs up to {MAX_DEPTH} deep in each other"), "deeper ones".into()));
        }
        for node in &proto.node {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                if !names.own.insert(output.clone()) {
                    let label = label(node);
                    return Err(malformed(label, "an output that nothing else makes", format!("`{output}`")));
                }
            }
        }
        if let Some(name) = names.own.iter().find(|name| outer.is_some_and(|outer| outer.has(name))) {
            return Err(malformed(place, "names of its own", format!("`{name}`, which the graph around it has")));
        }
        let nodes = proto.node.into_iter().map(|node| self.node(node, &names)).collect::<Result<Vec<_>>>()?;
        let mut captures = BTreeSet::new();
        for name in nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.captures)).chain(&outputs) {
            if !name.is_empty() && !names.own.contains(name) && outer.is_some_and(|outer| outer.has(name)) {
                captures.insert(name.clone());
            }
        }
        if outer.is_some() {
            in_order(&nodes)?;
        }
        let nodes = sorted(nodes, &given, &captures)?;
        Ok((SubGraph { nodes, constants, inputs, outputs, types }, captures))
    }

    fn node(&mut self, proto: NodeProto, names: &Names) -> Result<OnnxNode> {
        let label = label(&proto);
        let op = proto.op_type.unwrap_or_default();
        let name = proto.name.filter(|n| !n.is_empty());
        let name = name.or_else(|| proto.output.iter().find(|o| !o.is_empty()).cloned()).unwrap_or_default();
        let domain = proto.domain.unwrap_or_default();
        let op = match domain.as_str() {
            "" | "ai.onnx" => op,
            domain => format!("{domain}.{op}"),
        };
        let (mut attributes, mut graphs, mut captures) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for mut attribute in proto.attribute {
            if attribute.ref_attr_name.as_ref().is_some_and(|n| !n.is_empty()) {
                return Err(unsupported(label, "an attribute that refers to a function's"));
            }
            let name = attribute.name.clone().unwrap_or_default();
            // A copy, since a part of the file would keep all of it in memory.
            if let Some(data) = attribute.t.as_mut().and_then(|tensor| tensor.raw_data.as_mut()) {
                *data = Bytes::copy_from_slice(data);
            }
            if let Some(graph) = attribute.g.take() {
                let (graph, captured) = self.graph(&label, graph, Some(names))?;
                captures.extend(captured);
                graphs.insert(name.clone(), graph);
            }
            if let Some(twice) = attributes.insert(name, attribute) {
                let got = format!("`{}` twice", twice.name.unwrap_or_default());
                return Err(malformed(label, "one attribute of a name", got));
            }
        }
        let folder = self.folder.map(Path::to_owned);
        let (inputs, outputs, opset) = (proto.input, proto.output, self.opset);
        Ok(OnnxNode { name, label, op, inputs, outputs, opset, graphs, captures, attributes, folder })
    }
}

/// What errors call a node.
fn label(node: &NodeProto) -> String {
    let name = node.name.as_ref().filter(|n| !n.is_empty());
    let name = name.or_else(|| node.output.iter().find(|o| !o.is_empty())).map_or("", String::as_str);
    format!("node `{name}` ({})", node.op_type.as_deref().unwrap_or_default())
}

fn opset(model: &ModelProto) -> Result<i64> {
    let is_standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let version = model.opset_import.iter().find(|o| is_standard(o.domain.as_deref().unwrap_or_default()));
    match version.and_then(|o| o.version) {
        Some(version) if (6..=26).contains(&version) => Ok(version),
        Some(version) => Err(unsupported("ONNX model", format!("opset {version} (supported: 6 to 26)"))),
        None => Err(malformed("ONNX model", "an opset_import of ONNX", "none".into())),
    }
}

/// An input of the graph, and its ONNX data type.
fn graph_input(name: String, input: &ValueInfoProto) -> Result<(GraphInput, i32)> {
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let Some(tensor) = tensor else { return Err(unsupported(format!("input `{name}`"), "a type other than tensor")) };
    let kind = tensor.elem_type.unwrap_or(0);
    let integers = match kind {
        1 | 10 | 11 | 16 => false,
        2..=7 | 12 | 13 => true,
        other => return Err(unsupported(format!("input `{name}`"), format!("ONNX data type {other}"))),
    };
    let shape = tensor.shape.as_ref().map(|shape| {
        shape.dim.iter().map(|d| d.dim_value.and_then(|d| usize::try_from(d).ok()).filter(|&d| d > 0)).collect()
    });
    Ok((GraphInput { name, integers, shape }, kind))
}

/// An error if a node of a graph in a node reads what a later one makes. Runtimes take such a graph for the model's own only.
fn in_order(nodes: &[OnnxNode]) -> Result<()> {
    let makers: BTreeMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.outputs.iter().map(move |output| (output.as_str(), index)))
        .filter(|(output, _)| !output.is_empty())
        .collect();
    for (index, node) in nodes.iter().enumerate() {
        let late = node.inputs.iter().find(|input| makers.get(input.as_str()).is_some_and(|&maker| maker > index));
        if let Some(name) = late {
            return Err(malformed(&node.label, "inputs that earlier nodes make", format!("`{name}` of a later one")));
        }
    }
    Ok(())
}

/// Nodes in topological order (Kahn), which also finds cycles and values that no node makes.
fn sorted(nodes: Vec<OnnxNode>, given: &BTreeSet<String>, captures: &BTreeSet<String>) -> Result<Vec<OnnxNode>> {
    let mut makers = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        makers.extend(node.outputs.iter().filter(|o| !o.is_empty()).map(|output| (output.clone(), index)));
    }
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut waits = vec![0usize; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let read = node.inputs.iter().chain(&node.captures);
        for input in read.filter(|i| !i.is_empty() && !given.contains(*i) && !captures.contains(*i)) {
            let Some(&maker) = makers.get(input) else {
                return Err(malformed(&node.label, "inputs that are there", format!("`{input}`, which nothing makes")));
            };
            readers[maker].push(index);
            waits[index] += 1;
        }
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&i| waits[i] == 0).collect();
    let mut nodes: Vec<Option<OnnxNode>> = nodes.into_iter().map(Some).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(index) = ready.pop_first() {
        order.extend(nodes[index].take());
        for &reader in &readers[index] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    match nodes.into_iter().flatten().next() {
        Some(node) => Err(malformed(&node.label, "no cycle", "a node that depends on its own output".into())),
        None => Ok(order),
    }
}

/// Types of attributes, with ONNX's numbers.
#[derive(Clone, Copy, Debug)]
enum AttributeType {
    Float = 1,
    Int = 2,
    Text = 3,
    Tensor = 4,
    Floats = 6,
    Ints = 7,
    Texts = 8,
}

impl OnnxNode {
    /// An error if there is an attribute that is not in `known`.
    pub fn allow(&self, known: &[&str]) -> Result<()> {
        match self.attributes.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(self.unsupported(format!("attribute `{name}`"))),
            None => Ok(()),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// The attribute `name`, which must be of type `kind`. Files of the oldest exporters state no type.
    fn attribute(&self, name: &str, kind: AttributeType) -> Result<Option<&AttributeProto>> {
        match self.attributes.get(name) {
            Some(attribute) if ![0, kind as i32].contains(&attribute.kind.unwrap_or(0)) => Err(self.malformed(
                format!("attribute `{name}` of type {} ({kind:?})", kind as i32),
                format!("type {}", attribute.kind.unwrap_or(0)),
            )),
            found => Ok(found),
        }
    }

    /// An error if a required attribute is missing.
    pub fn require(&self, name: &str) -> Result<()> {
        if self.has(name) { Ok(()) } else { Err(self.malformed(format!("attribute `{name}`"), "none")) }
    }

    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.attribute(name, AttributeType::Int)?.map_or(default, |a| a.i.unwrap_or(0)))
    }

    /// An integer attribute that is 0 or 1.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.int(name, i64::from(default))? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.malformed(format!("attribute `{name}` 0 or 1"), other.to_string())),
        }
    }

    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.attribute(name, AttributeType::Float)?.map_or(default, |a| a.f.unwrap_or(0.0)))
    }

    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|a| a.ints.as_slice()))
    }

    pub fn floats(&self, name: &str) -> Result<&[f32]> {
        Ok(self.attribute(name, AttributeType::Floats)?.map_or(&[], |a| a.floats.as_slice()))
    }

    pub fn text(&self, name: &str, default: &str) -> Result<String> {
        let bytes = self.attribute(name, AttributeType::Text)?.and_then(|a| a.s.as_deref());
        Ok(bytes.map_or_else(|| default.to_owned(), |b| String::from_utf8_lossy(b).into_owned()))
    }

    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let strings = self.attribute(name, AttributeType::Texts)?.map_or(&[][..], |a| &a.strings);
        Ok(strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect())
    }

    pub fn tensor(&self, name: &str) -> Result<Option<Array>> {
        let tensor = self.attribute(name, AttributeType::Tensor)?.and_then(|a| a.t.as_ref());
        tensor.map(|t| array::decode(t, self.folder.as_deref())).transpose()
    }

    /// The ONNX data type of a tensor attribute.
    pub fn tensor_type(&self, name: &str) -> Result<Option<i32>> {
        Ok(self.attribute(name, AttributeType::Tensor)?.and_then(|a| a.t.as_ref()).and_then(|t| t.data_type))
    }

    pub fn unsupported(&self, what: impl Into<String>) -> Error {
        unsupported(self.label.as_str(), what)
    }

    pub fn malformed(&self, expected: impl Into<String>, got: impl Into<String>) -> Error {
        malformed(self.label.as_str(), expected, got.into())
    }
}
