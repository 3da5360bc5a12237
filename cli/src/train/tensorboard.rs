//! Event files of TensorBoard: records of a length, its checksum, a protobuf message and its checksum.
//!
//! <https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto>, and `record_writer.cc` of
//! TensorFlow.

/// The bytes of an event file.
pub struct EventFile(Vec<u8>);

/// Wire type 2 of a protobuf field: bytes with a length before them.
fn message(field: u8, bytes: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = (value & 0x7f).to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// CRC-32C (Castagnoli), as RFC 3720 has it.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// The checksum as records have it.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

impl EventFile {
    /// A file without events; `time` in seconds since 1970.
    pub fn new(time: f64) -> Self {
        let mut file = Self(Vec::new());
        file.event(time, 0, &message(3, b"brain.Event:2"));
        file
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Numbers at `step`, each with its tag.
    pub fn scalars(&mut self, time: f64, step: u64, scalars: &[(&str, f64)]) {
        let value = |&(tag, number): &(&str, f64)| {
            #[expect(clippy::cast_possible_truncation, reason = "TensorBoard keeps f32")]
            let number = (number as f32).to_le_bytes();
            // simple_value is field 2 of wire type 5: four bytes.
            message(1, &[message(1, tag.as_bytes()), vec![2 << 3 | 5], number.to_vec()].concat())
        };
        let summary: Vec<u8> = scalars.iter().flat_map(value).collect();
        self.event(time, step, &message(5, &summary));
    }

    /// A record: wall_time (field 1, a double), step (field 2) and `what`.
    fn event(&mut self, time: f64, step: u64, what: &[u8]) {
        // A 0 is left out, as protobuf does.
        let step = if step == 0 { Vec::new() } else { [&[2 << 3][..], &varint(step)].concat() };
        let event = [&[1 << 3 | 1][..], &time.to_le_bytes(), &step, what].concat();
        let length = (event.len() as u64).to_le_bytes();
        for part in [&length[..], &masked(&length), &event, &masked(&event)] {
            self.0.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_ne!(crc32c(b"123456788"), 0xe306_9283);
    }

    /// The bytes of the same events by TensorBoard's own `RecordWriter`.
    #[test]
    fn records_are_as_tensorboard_writes_them() {
        const EXPECTED: [&str; 2] = [
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c1b",
            "000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000003f69f9315b",
        ];
        let mut file = EventFile::new(1.5);
        file.scalars(1.5, 300, &[("loss", 0.5)]);
        let hex: String = file.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, EXPECTED.concat());
    }
}
