//! A number that identifies a network.

use super::Network;
use crate::base::hash::Fnv;

impl Network {
    /// A hash of the layers, their options and every weight: the same on every machine, and
    /// different for networks that compute something else. It does not protect against deliberate changes.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        for layer in &self.spec().layers {
            // A layer has no key that is not a string, which is all that could fail.
            hash.text(&serde_json::to_string(layer).unwrap_or_default());
        }
        for (name, tensor) in self.tensors() {
            hash.text(name);
            tensor.data().iter().for_each(|number| hash.add(number.to_bits()));
        }
        hash.value()
    }
}
