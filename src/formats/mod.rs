//! Files to [`Network`](crate::Network) and back.

pub mod safetensors;
