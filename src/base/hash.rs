//! The one hash for identities and checksums. It does not protect against deliberate changes.

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>), over words of up to 4 bytes.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub fn add(&mut self, word: u32) {
        self.0 = (self.0 ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3);
        // A multiplication carries only to higher bits; this mixes the high bits into the low ones.
        self.0 ^= self.0 >> 32;
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.add(u32::MAX);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.add(byte.into()));
    }

    pub fn value(&self) -> u64 {
        self.0
    }
}
