//! TensorFlow's functions where a `tf.keras` model calls them between its layers (`TFOpLambda`), by the names of Keras 3's
//! operations.

use serde_json::{Map, Value};

/// TensorFlow's name without `tf.`, and Keras 3's.
const FUNCTIONS: [(&str, &str); 57] = [
    ("__operators__.add", "Add"),
    ("math.add", "Add"),
    ("__operators__.sub", "Subtract"),
    ("math.subtract", "Subtract"),
    ("__operators__.mul", "Multiply"),
    ("math.multiply", "Multiply"),
    ("__operators__.truediv", "Divide"),
    ("math.truediv", "Divide"),
    ("math.divide", "Divide"),
    ("__operators__.pow", "Power"),
    ("math.pow", "Power"),
    ("math.maximum", "Maximum"),
    ("math.minimum", "Minimum"),
    ("__operators__.neg", "Negative"),
    ("math.negative", "Negative"),
    ("math.abs", "Absolute"),
    ("math.exp", "Exp"),
    ("math.log", "Log"),
    ("math.sqrt", "Sqrt"),
    ("math.rsqrt", "Rsqrt"),
    ("math.reciprocal", "Reciprocal"),
    ("math.square", "Square"),
    ("math.sigmoid", "Sigmoid"),
    ("math.tanh", "Tanh"),
    ("math.softplus", "Softplus"),
    ("nn.sigmoid", "Sigmoid"),
    ("nn.tanh", "Tanh"),
    ("nn.relu", "Relu"),
    ("nn.relu6", "Relu6"),
    ("nn.leaky_relu", "LeakyRelu"),
    ("nn.elu", "Elu"),
    ("nn.selu", "Selu"),
    ("nn.gelu", "Gelu"),
    ("nn.silu", "Silu"),
    ("nn.swish", "Silu"),
    ("nn.softplus", "Softplus"),
    ("nn.softmax", "Softmax"),
    ("nn.log_softmax", "LogSoftmax"),
    ("math.reduce_mean", "Mean"),
    ("math.reduce_sum", "Sum"),
    ("math.reduce_max", "Max"),
    ("math.reduce_min", "Min"),
    ("math.reduce_std", "Std"),
    ("math.reduce_variance", "Var"),
    ("norm", "Norm"),
    ("math.l2_normalize", "Normalize"),
    ("clip_by_value", "Clip"),
    ("expand_dims", "ExpandDims"),
    ("squeeze", "Squeeze"),
    ("compat.v1.squeeze", "Squeeze"),
    ("reshape", "Reshape"),
    ("transpose", "Transpose"),
    ("reverse", "Flip"),
    ("stack", "Stack"),
    ("concat", "Concatenate"),
    ("pad", "Pad"),
    ("linalg.matmul", "Matmul"),
];

/// Names of arguments that are tensors or numbers, after the first.
pub(super) const OPERANDS: [&str; 3] = ["x", "y", "b"];

/// Whether a layer's description is a call of a function of TensorFlow.
pub(super) fn is_function(layer: &Value) -> bool {
    layer.get("class_name").is_some_and(|class| class == "TFOpLambda")
}

/// Keras 3's operation that such a layer is, if there is one, and the arguments that are its options.
pub(super) fn operation(layer: &Value) -> Option<(&'static str, Option<&Map<String, Value>>)> {
    let function = layer.pointer("/config/function")?.as_str()?;
    let (_, class) = FUNCTIONS.iter().find(|(name, _)| *name == function)?;
    let calls = layer.get("inbound_nodes")?.as_array()?;
    let [call] = calls.as_slice() else { return None };
    // A call is one tensor with its arguments, or a list of such tensors.
    let first = call.get(0)?;
    let tensor = if first.is_string() { call } else { first };
    Some((class, tensor.get(3).and_then(Value::as_object)))
}
