//! A network that reads the letters of dates and writes the same in ISO 8601: an encoder, and a decoder that attends to what it
//! left. `examples/train_dates.rs` trained it.

use std::path::Path;

use gatefold::{
    BeamOptions, Device, GenerateOptions, Input, NamedInput, Network, Sequence, Session, StreamId, StreamPool,
};

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

/// The network on a device.
pub struct Translator {
    /// All of it, for the alignments.
    whole: Session,
    /// Its decoder's streams.
    decoders: StreamPool,
    /// Letters by token.
    source: Vec<char>,
    target: Vec<char>,
}

impl Translator {
    /// Reads the network and the letters from a folder.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        let network = Network::load(folder.join("translator.safetensors"))?;
        let path = folder.join("vocabulary.json");
        let letters = |side: &str| -> Result<Vec<char>> {
            let text = std::fs::read_to_string(&path)?;
            let vocabulary: serde_json::Value = serde_json::from_str(&text)?;
            Ok(vocabulary[side].as_str().ok_or_else(|| format!("expected letters under `{side}`"))?.chars().collect())
        };
        let named = |error: Box<dyn std::error::Error>| format!("{}: {error}", path.display());
        let (source, target) = (letters("source").map_err(named)?, letters("target").map_err(named)?);
        for (side, letters) in [("source", &source), ("target", &target)] {
            let input = network.inputs().iter().find(|input| input.name == side);
            let known = input.and_then(|input| input.num_embeddings).unwrap_or(0);
            if known != letters.len() {
                let got = letters.len();
                return Err(format!("{}: expected {known} letters under `{side}`, got {got}", path.display()).into());
            }
        }
        Self::new(device, &network, source, target)
    }

    /// The same from a network that has been read.
    pub fn new(device: &Device, network: &Network, source: Vec<char>, target: Vec<char>) -> Result<Self> {
        let limit = BATCH * (1 + MOST_BEAMS);
        let decoders = StreamPool::with_limit(Session::new(device, network)?, BATCH, limit)?;
        Ok(Self { whole: Session::new(device, network)?, decoders, source, target })
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

    /// What each letter of an answer looked at: for each of them, shares of the letters of the text.
    pub fn alignment(&self, text: &str, sequence: &Sequence) -> Result<Vec<Vec<f32>>> {
        let (source, _) = self.encoded(&[text.to_owned()])?;
        let behind = sequence.tokens.len().saturating_sub(1);
        let given: Vec<u32> = std::iter::once(END).chain(sequence.tokens[..behind].iter().copied()).collect();
        let others = [NamedInput::tokens("target", &given[..], [given.len(), 1])];
        let input = Input::tokens(&source, [source.len(), 1]).with_others(&others);
        let alignments = self.whole.alignments(input, None)?;
        let alignment = alignments.first().ok_or("expected a network with attention, got none")?;
        Ok((0..sequence.text().len()).map(|step| alignment.row(step, 0, 0).to_vec()).collect())
    }

    /// Reads texts of any lengths in one batch; a decoder's stream is there for each. What they attend to stays on the device.
    fn read(&self, texts: &[String]) -> Result<Vec<StreamId>> {
        let (source, lengths) = self.encoded(texts)?;
        let shape = [source.len() / texts.len(), texts.len()];
        Ok(self.decoders.open_reading(Input::tokens(&source, shape).with_lengths(&lengths))?)
    }

    /// Tokens `[S, B]` of texts, and their lengths.
    fn encoded(&self, texts: &[String]) -> Result<(Vec<u32>, Vec<usize>)> {
        if let Some(at) = texts.iter().position(|text| text.is_empty()) {
            return Err(format!("date {}: expected letters, got none", at + 1).into());
        }
        // What is no letter of the source is read as its first, a blank.
        let known = |letter: char| self.source.iter().position(|&known| known == letter.to_ascii_lowercase());
        let id = |letter: char| u32::try_from(known(letter).unwrap_or(0)).unwrap_or(0);
        let lengths: Vec<usize> = texts.iter().map(|text| text.chars().count()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut source = vec![0; longest * texts.len()];
        for (row, text) in texts.iter().enumerate() {
            text.chars().enumerate().for_each(|(step, letter)| source[step * texts.len() + row] = id(letter));
        }
        Ok((source, lengths))
    }
}
