//! What a step of generation costs on a GPU.

use gatefold::GenerateOptions;

use crate::common::device;
use crate::common::pool;
use crate::on_device::generate::{decoder, open};

/// A step costs no GPU object and, between two looks, no readback.
#[test]
fn steps_are_read_back_every_so_often() {
    let device = device();
    let network = decoder(7, 3);
    let pool = pool(device, &network, 8);
    let streams = open(&pool, &network, 4);
    let prompts: Vec<_> = streams.iter().map(|&id| (id, &[1][..])).collect();
    let back = |read_every| {
        let before = pool.session().counters();
        let options = GenerateOptions { max_new_tokens: 32, read_every, ..Default::default() };
        pool.generate(&prompts, &options).unwrap();
        let after = pool.session().counters();
        assert_eq!(after.runs - before.runs, 32);
        after.bytes_from_device - before.bytes_from_device
    };
    let tokens = 4 * 32 * 4;
    assert_eq!([back(1), back(8), back(32)], [32 * 64 + tokens, 4 * 64 + tokens, 64 + tokens]);
    let plans = pool.session().counters().plans;
    back(8);
    assert_eq!(pool.session().counters().plans, plans);
}
