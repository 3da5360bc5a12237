//! Spans of the crate `tracing`, behind the feature of that name.

/// Enters a span at level DEBUG until the end of the block that it is called in. Without the feature `tracing` it does nothing.
macro_rules! span {
    ($name:literal, $($fields:tt)*) => {
        #[cfg(feature = "tracing")]
        let _span = tracing::debug_span!(target: "gatefold", $name, $($fields)*).entered();
    };
}

pub(crate) use span;
