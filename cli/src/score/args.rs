//! The arguments of `gatefold score`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::format::FileFormat;

#[derive(Debug, ClapArgs)]
pub struct ScoreArgs {
    /// Rows to score: a Parquet file, a CSV file with a header, or JSON lines
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write, with a row for each row of IN
    ///
    /// Finished parts are kept in the folder OUT.parts until all are there. Then they are joined, and the folder is removed.
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// A .safetensors, .keras, .h5 or .onnx model [default: the built-in sentiment model]
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Column (or key) of the text
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub text: String,
    /// Column (or key) of lists of token ids, instead of a text
    #[arg(long, value_name = "COLUMN", conflicts_with_all = ["text", "features"])]
    pub tokens: Option<String>,
    /// Column (or key) of lists of numbers, or of one list of numbers for each timestep, instead of a text
    #[arg(long, value_name = "COLUMN", conflicts_with = "text")]
    pub features: Option<String>,
    /// Columns of IN that OUT has too [default: all but the one that is scored]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub keep: Option<Vec<String>>,
    /// Names of the classes of a model without labels, one per output; of one sigmoid two: below and above 0.5
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// Format of IN [default: by its ending]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub from: Option<FileFormat>,
    /// Format of OUT [default: by its ending]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub to: Option<FileFormat>,
    /// Leave out rows that cannot be scored, and list them with the reasons in OUT.bad.jsonl
    ///
    /// Without this the first such row ends the command.
    #[arg(long)]
    pub skip_bad: bool,
    /// Go on with an interrupted run, with the same input, model and options
    #[arg(long)]
    pub resume: bool,
    /// Replace OUT if it exists, and begin again if a run was interrupted
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
    /// Rows of a part: what an interrupted run has to do again at most
    #[arg(long, value_name = "ROWS", default_value = "65536")]
    pub part: NonZeroU64,
}
