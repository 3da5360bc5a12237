//! The smallest program: a network from a file, a device, two answers.
//!
//! ```text
//! cargo run --release --example hello
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its answers")]

use gatefold::{Classifier, Device, DeviceChoice, Network};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/sentiment/sentiment.safetensors");
const TEXTS: [&str; 2] = ["a warm, funny and deeply moving film", "two hours i will never get back"];

fn main() -> gatefold::Result<()> {
    let network = Network::load(MODEL)?;
    let device = Device::open(&DeviceChoice::Auto)?; // the best GPU, or this CPU
    let classifier = Classifier::new(&device, &network)?;
    println!("on {}", device.info());
    for (text, answer) in TEXTS.iter().zip(classifier.classify(&TEXTS)?) {
        println!("{:8} {:.3}  {text}", answer.label, answer.probability());
    }
    Ok(())
}
