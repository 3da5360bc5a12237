//! How a functional model calls its layers: Keras' `inbound_nodes`.

use serde_json::Value;

use super::layers::Item;
use super::malformed;
use super::options::brief;
use crate::base::error::Result;

/// What a layer is called with, by the names of other layers.
#[derive(Default)]
pub(super) struct Call<'a> {
    pub inputs: Vec<&'a str>,
    pub mask: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(super) fn new(item: &Item<'a>) -> Result<Self> {
        let calls = item.value.get("inbound_nodes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        match calls {
            [] => Ok(Self::default()),
            // Keras 2 and before: [[name, node, tensor, arguments], ..]
            [Value::Array(tensors)] => {
                let inputs = tensors.iter().map(|tensor| legacy(item, tensor)).collect::<Result<_>>()?;
                Ok(Self { inputs, mask: None })
            }
            // Keras 3: {args: [tensor or [tensor, ..]], kwargs}
            [Value::Object(call)] => {
                let mask = arguments(item, call.get("kwargs"))?;
                let arguments = call.get("args").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let inputs = match arguments {
                    _ if item.is_operation() => operands(item, arguments)?,
                    [Value::Array(tensors)] => {
                        tensors.iter().map(|tensor| history(item, tensor)).collect::<Result<_>>()?
                    }
                    [tensor] => vec![history(item, tensor)?],
                    other => return Err(item.unsupported(&format!("a call with {} arguments", other.len()))),
                };
                Ok(Self { inputs, mask })
            }
            [other] => Err(malformed(&format!("layer `{}`: inbound_nodes", item.name), "a call", &brief(other))),
            more => Err(item.unsupported(&format!("a layer used {} times", more.len()))),
        }
    }
}

/// The tensors among the arguments of an operation; the others are numbers.
fn operands<'a>(item: &Item<'_>, arguments: &'a [Value]) -> Result<Vec<&'a str>> {
    let flat = arguments.iter().flat_map(|argument| match argument {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    });
    flat.filter(|argument| argument.is_object()).map(|tensor| history(item, tensor)).collect()
}

fn legacy<'a>(item: &Item<'_>, tensor: &'a Value) -> Result<&'a str> {
    let parts = tensor.as_array().map_or(&[][..], Vec::as_slice);
    if arguments(item, parts.get(3))?.is_some() {
        return Err(item.unsupported("call argument mask"));
    }
    tensor_name(item, parts.get(..3).unwrap_or_default(), tensor)
}

fn history<'a>(item: &Item<'_>, tensor: &'a Value) -> Result<&'a str> {
    let parts = tensor.pointer("/config/keras_history").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    tensor_name(item, parts, tensor)
}

/// The name in `[name, 0, 0]`.
fn tensor_name<'a>(item: &Item<'_>, parts: &'a [Value], tensor: &Value) -> Result<&'a str> {
    match parts {
        [Value::String(name), node, output] if node.as_u64() == Some(0) && output.as_u64() == Some(0) => Ok(name),
        [Value::String(name), ..] => {
            Err(item.unsupported(&format!("an input from `{name}`, a layer with several outputs or several calls")))
        }
        _ => Err(item.unsupported(&format!("an input that is no layer's output, {}", brief(tensor)))),
    }
}

/// The mask among the named arguments of a call; an error if there is another that matters.
fn arguments<'a>(item: &Item<'_>, arguments: Option<&'a Value>) -> Result<Option<&'a str>> {
    let Some(arguments) = arguments.and_then(Value::as_object) else { return Ok(None) };
    let mut mask = None;
    for (key, value) in arguments.iter().filter(|(_, value)| !value.is_null()) {
        match key.as_str() {
            "training" if *value == Value::Bool(false) => {}
            "mask" if value.is_object() => mask = Some(history(item, value)?),
            _ => return Err(item.unsupported(&format!("call argument {key} = {}", brief(value)))),
        }
    }
    Ok(mask)
}
