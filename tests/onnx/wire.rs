//! ONNX models written field by field, for graphs that no exporter writes.

/// ONNX's numbers of element types.
pub const FLOAT: u64 = 1;
pub const INT32: u64 = 6;
pub const INT64: u64 = 7;
pub const BOOL: u64 = 9;

/// A message in protobuf's encoding.
pub type Message = Vec<u8>;

fn varint(out: &mut Message, mut value: u64) {
    while value >= 0x80 {
        out.extend(u8::try_from(value & 0x7f).map(|low| low | 0x80));
        value >>= 7;
    }
    out.extend(u8::try_from(value));
}

fn number(out: &mut Message, tag: u64, value: u64) {
    varint(out, tag << 3);
    varint(out, value);
}

fn bytes(out: &mut Message, tag: u64, value: &[u8]) {
    varint(out, tag << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn tensor(name: &str, kind: u64, dims: &[u64], raw: &[u8]) -> Message {
    let mut out = Vec::new();
    dims.iter().for_each(|&dim| number(&mut out, 1, dim));
    number(&mut out, 2, kind);
    bytes(&mut out, 8, name.as_bytes());
    bytes(&mut out, 9, raw);
    out
}

/// A constant of floats that differ.
pub fn floats(name: &str, dims: &[u64]) -> Message {
    let count: u64 = dims.iter().product();
    let raw: Vec<u8> = (0..count).flat_map(|i| ((i as f32 * 0.7).sin() * 0.5).to_le_bytes()).collect();
    tensor(name, FLOAT, dims, &raw)
}

/// A constant of 8-bit integers.
pub fn bytes_of(name: &str, dims: &[u64]) -> Message {
    const INT8: u64 = 3;
    let raw: Vec<u8> = (0..dims.iter().product::<u64>()).flat_map(|i| u8::try_from(i * 37 % 251)).collect();
    tensor(name, INT8, dims, &raw)
}

/// One float.
pub fn float(name: &str, value: f32) -> Message {
    tensor(name, FLOAT, &[], &value.to_le_bytes())
}

/// A list of integers.
pub fn ints(name: &str, values: &[i64]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, INT64, &[values.len() as u64], &raw)
}

/// One integer.
pub fn int(name: &str, value: i64) -> Message {
    tensor(name, INT64, &[], &value.to_le_bytes())
}

/// An attribute: an integer, integers, text, texts or a graph.
pub enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Text(&'static str),
    Texts(Vec<&'static str>),
    Graph(Message),
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<(&str, Attribute)>) -> Message {
    let mut out = Vec::new();
    inputs.iter().for_each(|input| bytes(&mut out, 1, input.as_bytes()));
    outputs.iter().for_each(|output| bytes(&mut out, 2, output.as_bytes()));
    bytes(&mut out, 4, op.as_bytes());
    for (name, value) in attributes {
        let mut attribute = Vec::new();
        bytes(&mut attribute, 1, name.as_bytes());
        let kind = match value {
            Attribute::Int(value) => {
                number(&mut attribute, 3, value.cast_unsigned());
                2
            }
            Attribute::Ints(values) => {
                values.iter().for_each(|&value| number(&mut attribute, 8, value.cast_unsigned()));
                7
            }
            Attribute::Text(text) => {
                bytes(&mut attribute, 4, text.as_bytes());
                3
            }
            Attribute::Texts(texts) => {
                texts.iter().for_each(|text| bytes(&mut attribute, 9, text.as_bytes()));
                8
            }
            Attribute::Graph(graph) => {
                bytes(&mut attribute, 6, &graph);
                5
            }
        };
        number(&mut attribute, 20, kind);
        bytes(&mut out, 5, &attribute);
    }
    out
}

/// The name and the type of a graph's input or output; sizes left out are open.
pub fn info(name: &str, kind: u64, dims: &[Option<u64>]) -> Message {
    let mut shape = Vec::new();
    for dim in dims {
        let mut size = Vec::new();
        dim.iter().for_each(|&dim| number(&mut size, 1, dim));
        bytes(&mut shape, 1, &size);
    }
    let mut of = Vec::new();
    number(&mut of, 1, kind);
    bytes(&mut of, 2, &shape);
    let (mut kind, mut out) = (Vec::new(), Vec::new());
    bytes(&mut kind, 1, &of);
    bytes(&mut out, 1, name.as_bytes());
    bytes(&mut out, 2, &kind);
    out
}

pub fn graph(nodes: &[Message], constants: &[Message], inputs: &[Message], outputs: &[&str]) -> Message {
    let mut out = Vec::new();
    nodes.iter().for_each(|node| bytes(&mut out, 1, node));
    constants.iter().for_each(|constant| bytes(&mut out, 5, constant));
    inputs.iter().for_each(|input| bytes(&mut out, 11, input));
    outputs.iter().for_each(|output| bytes(&mut out, 12, &info(output, FLOAT, &[])));
    out
}

pub fn model(graph: &[u8]) -> Vec<u8> {
    let (mut out, mut opset) = (Vec::new(), Vec::new());
    number(&mut opset, 2, 17);
    number(&mut out, 1, 8);
    bytes(&mut out, 7, graph);
    bytes(&mut out, 8, &opset);
    out
}
