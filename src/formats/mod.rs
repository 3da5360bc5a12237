//! Files to [`Network`](crate::Network) and back.

#[cfg(feature = "keras")]
pub mod keras;
pub mod safetensors;
