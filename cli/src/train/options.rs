//! Options of the command as those of the library.

use gatefold::train::{Adam, Clip, Dropout, DropoutUnit, Fit, Loss, Optimizer, RecurrentDropout, TrainOptions};

use crate::Result;
use crate::args::{LossKind, Preset, TrainArgs};
use crate::units::mebibytes;

impl From<LossKind> for Loss {
    fn from(kind: LossKind) -> Self {
        match kind {
            LossKind::CrossEntropy => Self::CrossEntropy,
            LossKind::Mse => Self::Mse,
            LossKind::Mae => Self::Mae,
        }
    }
}

/// How the network is trained.
pub fn train_options(args: &TrainArgs) -> Result<TrainOptions> {
    let mut adam = match args.preset {
        Preset::Keras => Adam::keras(),
        Preset::Pytorch => Adam::default(),
    };
    adam.learning_rate = args.lr.unwrap_or(adam.learning_rate);
    let mut optimizer = Optimizer::from(adam);
    let convention = adam.convention;
    optimizer.clip = args.clip_norm.map(|max| Clip::GlobalNorm { max, convention });
    let mut options = TrainOptions::new(args.data.loss.into())
        .optimizer(optimizer)
        .one_bias(args.preset == Preset::Keras)
        .seed(args.seed);
    options.memory = args.memory.map(|mib| mebibytes("--memory", mib)).transpose()?;
    for given in &args.dropout {
        let wrong =
            || format!("--dropout: expected LAYER=RATE, LAYER=RATE:channels or LAYER=RATE:levels, got {given:?}");
        let (layer, rate) = given.split_once('=').ok_or_else(wrong)?;
        let (rate, unit) = match rate.split_once(':') {
            None => (rate, DropoutUnit::Element),
            Some((rate, "channels")) => (rate, DropoutUnit::Channel),
            Some((rate, "levels")) => (rate, DropoutUnit::BetweenLevels),
            Some(_) => return Err(wrong().into()),
        };
        options = options.dropout(Dropout { layer: layer.to_owned(), rate: rate.parse().map_err(|_| wrong())?, unit });
    }
    for given in &args.recurrent_dropout {
        let wrong = || format!("--recurrent-dropout: expected LAYER=RATE or LAYER=RATE:RATE, got {given:?}");
        let (layer, rates) = given.split_once('=').ok_or_else(wrong)?;
        let (state, input) = rates.split_once(':').unwrap_or((rates, "0"));
        let [state, input] = [state, input].map(|rate| rate.parse().map_err(|_| wrong()));
        options = options.recurrent_dropout(RecurrentDropout::new(layer, input?, state?));
    }
    Ok(options)
}

/// In which batches, how long, and where checkpoints go.
pub fn fit(args: &TrainArgs) -> Fit {
    let mut fit = Fit::new(args.batch).epochs(args.epochs);
    fit.patience = args.patience;
    fit.checkpoint = args.checkpoint.clone().or_else(|| args.resume.clone());
    fit.checkpoint_steps = args.checkpoint_steps;
    fit
}

/// Names of the options that differ.
pub fn differences(a: &TrainOptions, b: &TrainOptions) -> Result<Vec<String>> {
    let [a, b] = [serde_json::to_value(a)?, serde_json::to_value(b)?];
    let keys = a.as_object().into_iter().flat_map(|options| options.keys());
    Ok(keys.filter(|key| a[key.as_str()] != b[key.as_str()]).cloned().collect())
}
