//! How a functional model calls its layers: Keras' `inbound_nodes`.

use serde_json::Value;

use super::layers::Item;
use super::options::brief;
use super::{attention, malformed, tensorflow};
use crate::base::error::Result;

/// What Keras 2 writes instead of a layer's name where a number is the first argument.
const CONSTANT: &str = "_CONSTANT_VALUE";

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
    /// Whether a number is the first argument.
    pub number_first: bool,
    /// Whether a layer of attention gives the shares of the timesteps too.
    pub scores: bool,
    /// What about the call is not supported.
    pub refused: Option<String>,
}

impl<'a> Call<'a> {
    /// Every call of a layer.
    pub(super) fn all(item: &Item<'a>) -> Result<Vec<Self>> {
        let calls = item.value.get("inbound_nodes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        calls.iter().map(|call| Self::new(item, call)).collect()
    }

    fn new(item: &Item<'a>, call: &'a Value) -> Result<Self> {
        let mut made = Self::default();
        // The tensors that a layer of attention is called with by their names.
        let mut named = [None; 3];
        match call {
            // Keras 2 and before: [[name, node, tensor, arguments], ..]
            Value::Array(tensors) => {
                // An operation is called with one tensor, outside of a list.
                let one = matches!(tensors.first(), Some(Value::String(_)));
                for tensor in if one { std::slice::from_ref(call) } else { tensors } {
                    let parts = tensor.as_array().map_or(&[][..], Vec::as_slice);
                    if tensorflow::is_function(item.value) {
                        made.operand(item, parts.get(..3).unwrap_or_default(), tensor)?;
                        made.operands(item, parts.get(3))?;
                        continue;
                    }
                    made.arguments(item, parts.get(3), &mut named)?;
                    made.inputs.push(call_tensor(item, parts.get(..3).unwrap_or_default(), tensor)?);
                }
                if made.mask.is_some() {
                    made.refuse("call argument mask".into());
                }
            }
            // Keras 3: {args: [tensor or [tensor, ..]], kwargs}
            Value::Object(call) => {
                made.arguments(item, call.get("kwargs"), &mut named)?;
                let arguments = call.get("args").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                made.inputs = match arguments {
                    [tensor, Value::Array(slices)] if item.class == "GetItem" => {
                        made.slices = Some(slices);
                        vec![history(item, tensor)?]
                    }
                    _ if item.is_operation() => {
                        made.number_first = arguments.first().is_some_and(Value::is_number);
                        made.numbers = arguments.iter().filter_map(Value::as_f64).collect();
                        operands(item, arguments)?
                    }
                    [Value::Array(tensors)] => {
                        tensors.iter().map(|tensor| history(item, tensor)).collect::<Result<_>>()?
                    }
                    [tensor] => vec![history(item, tensor)?],
                    several => {
                        if !has_query(item) {
                            made.refuse(format!("{}: a call with {} arguments", item.class, several.len()));
                        }
                        operands(item, several)?
                    }
                };
            }
            other => return Err(malformed(&format!("layer `{}`: inbound_nodes", item.name), "a call", &brief(other))),
        }
        made.inputs.extend(named.into_iter().flatten());
        Ok(made)
    }

    /// A tensor that a function of TensorFlow is called with, or a number in the place of one.
    fn operand(&mut self, item: &Item<'_>, parts: &'a [Value], tensor: &Value) -> Result<()> {
        match (parts, self.inputs.is_empty()) {
            ([Value::String(name), _, number], first) if name == CONSTANT && number.is_number() => {
                self.number_first = first;
                self.numbers.extend(number.as_f64());
            }
            _ => self.inputs.push(call_tensor(item, parts, tensor)?),
        }
        Ok(())
    }

    /// The named arguments of a function of TensorFlow that are tensors or numbers.
    fn operands(&mut self, item: &Item<'_>, arguments: Option<&'a Value>) -> Result<()> {
        let Some(arguments) = arguments.and_then(Value::as_object) else { return Ok(()) };
        for value in tensorflow::OPERANDS.iter().filter_map(|key| arguments.get(*key)) {
            match value {
                Value::Number(number) => self.numbers.extend(number.as_f64()),
                Value::Array(parts) => self.operand(item, parts, value)?,
                other => self.refuse(format!("operation {} of {}", item.class, brief(other))),
            }
        }
        Ok(())
    }

    /// Notes what is not supported; the first of it counts.
    fn refuse(&mut self, what: String) {
        self.refused.get_or_insert(what);
    }

    /// Reads the named arguments of a call, and notes those that matter and are not known.
    fn arguments(
        &mut self,
        item: &Item<'_>,
        arguments: Option<&'a Value>,
        named: &mut [Option<CallTensor<'a>>; 3],
    ) -> Result<()> {
        let Some(arguments) = arguments.and_then(Value::as_object) else { return Ok(()) };
        for (key, value) in arguments.iter().filter(|(_, value)| !value.is_null()) {
            match (key.as_str(), value) {
                ("training", Value::Bool(false)) => {}
                ("mask", Value::Object(_)) => self.mask = Some(history(item, value)?),
                // Of a query, which has none, of the value and of the key.
                ("mask", Value::Array(masks)) if attention::is_known(item.class) => match &masks[..] {
                    [Value::Null, Value::Null] | [Value::Null, Value::Null, Value::Null] => {}
                    [Value::Null, value @ Value::Object(_)] => self.mask = Some(history(item, value)?),
                    _ => self.refuse("masks of the query or of the key".into()),
                },
                ("return_attention_scores", Value::Bool(scores)) if attention::is_known(item.class) => {
                    self.scores = *scores;
                }
                ("use_causal_mask", Value::Bool(false)) if attention::is_known(item.class) => {}
                ("query" | "value" | "key", tensor) if has_query(item) => {
                    let at = match key.as_str() {
                        "query" => 0,
                        "value" => 1,
                        _ => 2,
                    };
                    named[at] = Some(match tensor {
                        Value::Array(parts) => call_tensor(item, parts, tensor)?,
                        _ => history(item, tensor)?,
                    });
                }
                ("initial_state", Value::Array(states)) => {
                    self.states = states.iter().map(|state| history(item, state)).collect::<Result<_>>()?;
                }
                ("initial_state", Value::Object(_)) => self.states = vec![history(item, value)?],
                ("slice_spec", Value::Array(slices)) if item.class == "SlicingOpLambda" => self.slices = Some(slices),
                _ => self.refuse(format!("{}: call argument {key} = {}", item.class, brief(value))),
            }
        }
        Ok(())
    }
}

/// Whether a layer is called with a query, a value and a key, each an argument of its own.
fn has_query(item: &Item<'_>) -> bool {
    item.class == "MultiHeadAttention"
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
