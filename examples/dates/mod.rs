//! An encoder that reads the letters of dates, and decoders that write the same in ISO 8601; `models/dates/train.py`
//! trained both.

use std::path::Path;

use gatefold::{BeamOptions, Device, GenerateOptions, Input, Network, Sequence, Session, StreamId, StreamPool};

/// Any error: its text is one line that says what was expected and what was found.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The token that begins and ends a date.
const END: u32 = 0;
/// An ISO date and the token that ends it, and one to spare.
const MOST: usize = 12;
/// Dates translated at once.
pub const BATCH: usize = 100;
/// Beams of each, at most; every beam is a stream.
const MOST_BEAMS: usize = 64;

/// Both networks on one device.
pub struct Translator {
    encoders: StreamPool,
    decoders: StreamPool,
    /// Letters by token.
    source: Vec<char>,
    target: Vec<char>,
}

impl Translator {
    /// Reads the two networks and the letters from a folder.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        let network = |name: &str| Network::load(folder.join(name));
        let (encoder, decoder) = (network("encoder.safetensors")?, network("decoder.safetensors")?);
        let path = folder.join("vocabulary.json");
        let letters = |side: &str| -> Result<Vec<char>> {
            let text = std::fs::read_to_string(&path)?;
            let vocabulary: serde_json::Value = serde_json::from_str(&text)?;
            Ok(vocabulary[side].as_str().ok_or_else(|| format!("expected letters under `{side}`"))?.chars().collect())
        };
        let named = |error: Box<dyn std::error::Error>| format!("{}: {error}", path.display());
        let (source, target) = (letters("source").map_err(named)?, letters("target").map_err(named)?);
        for (side, letters, network) in [("source", &source, &encoder), ("target", &target, &decoder)] {
            if network.num_embeddings() != Some(letters.len()) {
                let known = network.num_embeddings().unwrap_or(0);
                let got = letters.len();
                return Err(format!("{}: expected {known} letters under `{side}`, got {got}", path.display()).into());
            }
        }
        Self::new(device, &encoder, &decoder, source, target)
    }

    /// The same from networks that have been read.
    pub fn new(
        device: &Device,
        encoder: &Network,
        decoder: &Network,
        source: Vec<char>,
        target: Vec<char>,
    ) -> Result<Self> {
        let encoders = StreamPool::new(Session::new(device, encoder)?, BATCH)?;
        let limit = BATCH * (1 + MOST_BEAMS);
        let decoders = StreamPool::with_limit(Session::new(device, decoder)?, BATCH, limit)?;
        Ok(Self { encoders, decoders, source, target })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.decoders.session().device()
    }

    /// One answer for each text, the most probable letter at every step.
    pub fn greedy(&self, texts: &[String]) -> Result<Vec<Sequence>> {
        let options = GenerateOptions { max_new_tokens: MOST, eos: vec![END], ..GenerateOptions::default() };
        self.behind(texts, |prompts| self.decoders.generate(prompts, &options))
    }

    /// Several answers for each text, the best first.
    pub fn search(&self, texts: &[String], num_beams: usize) -> Result<Vec<Vec<Sequence>>> {
        let options = BeamOptions { num_beams, max_new_tokens: MOST, eos: vec![END], ..BeamOptions::default() };
        self.behind(texts, |prompts| self.decoders.beam_search(prompts, &options))
    }

    /// The letters of an answer.
    pub fn written(&self, sequence: &Sequence) -> String {
        sequence.text().iter().filter_map(|&token| self.target.get(token as usize)).collect()
    }

    /// What `write` makes of the decoders' streams behind the texts.
    fn behind<T>(
        &self,
        texts: &[String],
        write: impl Fn(&[(StreamId, &[u32])]) -> gatefold::Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(BATCH) {
            let streams = self.read(texts)?;
            let prompts: Vec<_> = streams.iter().map(|&id| (id, &[END][..])).collect();
            let written = write(&prompts);
            streams.into_iter().try_for_each(|id| self.decoders.close(id))?;
            all.extend(written?);
        }
        Ok(all)
    }

    /// Reads texts of any lengths in one batch; a decoder's stream starts where each ends. The states stay on the device.
    fn read(&self, texts: &[String]) -> Result<Vec<StreamId>> {
        if let Some(at) = texts.iter().position(|text| text.is_empty()) {
            return Err(format!("date {}: expected letters, got none", at + 1).into());
        }
        // What is no letter of the source is read as its first, a blank.
        let known = |letter: char| self.source.iter().position(|&known| known == letter.to_ascii_lowercase());
        let id = |letter: char| u32::try_from(known(letter).unwrap_or(0)).unwrap_or(0);
        let rows: Vec<Vec<u32>> = texts.iter().map(|text| text.chars().map(id).collect()).collect();
        let reading: Vec<StreamId> = rows.iter().map(|_| self.encoders.open()).collect::<gatefold::Result<_>>()?;
        let calls: Vec<_> =
            reading.iter().zip(&rows).map(|(&id, row)| (id, Input::tokens(row, [row.len(), 1]))).collect();
        self.encoders.advance(&calls)?;
        let streams = self.decoders.open_after(&self.encoders, &reading)?;
        reading.into_iter().try_for_each(|id| self.encoders.close(id))?;
        Ok(streams)
    }
}
