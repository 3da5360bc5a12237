//! A number that tells networks apart.

use super::Network;

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>), over words of up to 4 bytes.
struct Fnv(u64);

impl Fnv {
    fn add(&mut self, word: u32) {
        self.0 = (self.0 ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3);
        // Multiplying carries upwards alone; this brings the high bits back down.
        self.0 ^= self.0 >> 32;
    }

    fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.add(byte.into()));
        self.add(u32::MAX);
    }
}

impl Network {
    /// A hash of the layers, their options and every weight: the same on every machine, and
    /// different for networks that compute something else. It is no protection against intent.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        for layer in &self.spec().layers {
            // A layer has no key that is not a string, which is all that could fail.
            hash.text(&serde_json::to_string(layer).unwrap_or_default());
        }
        for (name, tensor) in self.tensors() {
            hash.text(name);
            tensor.data().iter().for_each(|number| hash.add(number.to_bits()));
        }
        hash.0
    }
}
