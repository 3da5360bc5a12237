//! What of a refused file is read and what is not.

/// What of a file is read, where the file is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survey {
    /// Nodes of an ONNX graph that the file's outputs depend on, or calls of Keras layers. A loop with its body is one node.
    pub nodes: usize,
    /// Nodes that are read.
    pub read: usize,
    /// Nodes behind refused ones, of which no more than the operator or the class is known.
    pub behind: usize,
    /// What is refused, in the order of the graph; empty if the file is read.
    pub refusals: Vec<String>,
}
