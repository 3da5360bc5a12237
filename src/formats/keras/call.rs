//! How a functional model calls its layers: Keras' `inbound_nodes`.

use serde_json::Value;

use super::layers::Item;
use super::malformed;
use super::options::brief;
use crate::base::error::Result;

/// An output of a call of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallTensor<'a> {
    /// The layer.
    pub name: &'a str,
    /// Which of its calls, from 0.
    pub call: usize,
    /// Which of the call's outputs.
    pub output: usize,
}

/// What a layer is called with.
#[derive(Default)]
pub(super) struct Call<'a> {
    pub inputs: Vec<CallTensor<'a>>,
    /// What a recurrent layer starts from.
    pub states: Vec<CallTensor<'a>>,
    pub mask: Option<CallTensor<'a>>,
    /// The places of a slice, one for each axis.
    pub slices: Option<&'a Vec<Value>>,
    /// The numbers among the arguments of an operation.
    pub numbers: Vec<f64>,
}

impl<'a> Call<'a> {
    /// Every call of a layer.
    pub(super) fn all(item: &Item<'a>) -> Result<Vec<Self>> {
        let calls = item.value.get("inbound_nodes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        calls.iter().map(|call| Self::new(item, call)).collect()
    }

    fn new(item: &Item<'a>, call: &'a Value) -> Result<Self> {
        let mut made = Self::default();
        match call {
            // Keras 2 and before: [[name, node, tensor, arguments], ..]
            Value::Array(tensors) => {
                // An operation is called with one tensor, outside of a list.
                let one = matches!(tensors.first(), Some(Value::String(_)));
                for tensor in if one { std::slice::from_ref(call) } else { tensors } {
                    let parts = tensor.as_array().map_or(&[][..], Vec::as_slice);
                    made.arguments(item, parts.get(3))?;
                    made.inputs.push(call_tensor(item, parts.get(..3).unwrap_or_default(), tensor)?);
                }
                if made.mask.is_some() {
                    return Err(item.unsupported("call argument mask"));
                }
            }
            // Keras 3: {args: [tensor or [tensor, ..]], kwargs}
            Value::Object(call) => {
                made.arguments(item, call.get("kwargs"))?;
                let arguments = call.get("args").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                made.inputs = match arguments {
                    [tensor, Value::Array(slices)] if item.class == "GetItem" => {
                        made.slices = Some(slices);
                        vec![history(item, tensor)?]
                    }
                    [first, ..] if matches!(item.class, "Divide" | "TrueDivide") && !first.is_object() => {
                        return Err(item.unsupported("a number divided by a tensor"));
                    }
                    _ if item.is_operation() => {
                        made.numbers = arguments.iter().filter_map(Value::as_f64).collect();
                        operands(item, arguments)?
                    }
                    [Value::Array(tensors)] => {
                        tensors.iter().map(|tensor| history(item, tensor)).collect::<Result<_>>()?
                    }
                    [tensor] => vec![history(item, tensor)?],
                    other => {
                        return Err(item.unsupported(&format!(
                            "{}: a call with {} arguments",
                            item.class,
                            other.len()
                        )));
                    }
                };
            }
            other => return Err(malformed(&format!("layer `{}`: inbound_nodes", item.name), "a call", &brief(other))),
        }
        Ok(made)
    }

    /// Reads the named arguments of a call; an error if there is one that matters and is not known.
    fn arguments(&mut self, item: &Item<'_>, arguments: Option<&'a Value>) -> Result<()> {
        let Some(arguments) = arguments.and_then(Value::as_object) else { return Ok(()) };
        for (key, value) in arguments.iter().filter(|(_, value)| !value.is_null()) {
            match (key.as_str(), value) {
                ("training", Value::Bool(false)) => {}
                ("mask", Value::Object(_)) => self.mask = Some(history(item, value)?),
                ("initial_state", Value::Array(states)) => {
                    self.states = states.iter().map(|state| history(item, state)).collect::<Result<_>>()?;
                }
                ("initial_state", Value::Object(_)) => self.states = vec![history(item, value)?],
                ("slice_spec", Value::Array(slices)) if item.class == "SlicingOpLambda" => self.slices = Some(slices),
                _ => return Err(item.unsupported(&format!("{}: call argument {key} = {}", item.class, brief(value)))),
            }
        }
        Ok(())
    }
}

/// The tensors among the arguments of an operation; the others are numbers.
fn operands<'a>(item: &Item<'_>, arguments: &'a [Value]) -> Result<Vec<CallTensor<'a>>> {
    let flat = arguments.iter().flat_map(|argument| match argument {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    });
    flat.filter(|argument| argument.is_object()).map(|tensor| history(item, tensor)).collect()
}

fn history<'a>(item: &Item<'_>, tensor: &'a Value) -> Result<CallTensor<'a>> {
    let parts = tensor.pointer("/config/keras_history").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    call_tensor(item, parts, tensor)
}

/// The output in `[name, call, output]`.
pub(super) fn call_tensor<'a>(item: &Item<'_>, parts: &'a [Value], tensor: &Value) -> Result<CallTensor<'a>> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    match parts {
        [Value::String(name), call, output] => match (number(call), number(output)) {
            (Some(call), Some(output)) => Ok(CallTensor { name, call, output }),
            _ => Err(malformed(&format!("layer `{}`: inbound_nodes", item.name), "whole numbers", &brief(tensor))),
        },
        _ => Err(item.unsupported(&format!("an input that is no layer's output, {}", brief(tensor)))),
    }
}
