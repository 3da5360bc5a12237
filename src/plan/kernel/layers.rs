//! Kernels of layers without a recurrence.

use super::{
    ACTIVATIONS, Binding, Constant, KernelSpec, ProductKernel, Tiling, f, matrix_sources, read, read_write, u, uniform,
};
use crate::network::WeightFormat;

const PARAMS: &str = include_str!("../../../shaders/common/params.wgsl");
const LOGITS: &str = include_str!("../../../shaders/common/logits.wgsl");
const RANDOM: &str = include_str!("../../../shaders/common/random.wgsl");
const PRODUCT: &str = include_str!("../../../shaders/common/product.wgsl");
const ROWS: &str = include_str!("../../../shaders/common/rows.wgsl");

const LINEAR_BINDINGS: &[Binding] =
    &[uniform("params"), read("x"), read("w"), read("bias"), read("scale"), read_write("output")];

pub(super) static EMBEDDING: Layer = Layer {
    name: "embedding",
    sources: &[PARAMS, include_str!("../../../shaders/embedding.wgsl")],
    bindings: &[uniform("params"), read("tokens"), read("table"), read_write("output")],
    constants: &[u("NUM_EMBEDDINGS"), u("EMBEDDING_DIM"), u("WORKGROUP")],
};

pub(super) static LINEAR: Layer = Layer {
    name: "linear",
    sources: &[PARAMS, ROWS],
    bindings: LINEAR_BINDINGS,
    constants: &[u("IN_FEATURES"), u("OUT_FEATURES"), u("ACTIVATION"), f("ALPHA"), f("BETA")],
};

pub(super) static CONV1D: Layer = Layer {
    name: "conv1d",
    sources: &[PARAMS, include_str!("../../../shaders/conv1d.wgsl")],
    bindings: LINEAR_BINDINGS,
    constants: &[
        u("IN_FEATURES"),
        u("OUT_FEATURES"),
        u("ACTIVATION"),
        f("ALPHA"),
        f("BETA"),
        u("CHANNELS"),
        u("STRIDE"),
        u("DILATION"),
        u("LEFT"),
    ],
};

pub(super) static SOFTMAX: Layer = Layer {
    name: "softmax",
    sources: &[PARAMS, include_str!("../../../shaders/softmax.wgsl")],
    bindings: &[uniform("params"), read("x"), read_write("output")],
    constants: &[u("FEATURES"), u("LOG"), u("WORKGROUP")],
};

pub(super) static ARG_MAX: Layer = Layer {
    name: "arg_max",
    sources: &[PARAMS, include_str!("../../../shaders/arg_max.wgsl")],
    bindings: &[uniform("params"), read("x"), read_write("output")],
    constants: &[u("FEATURES"), u("WORKGROUP")],
};

pub(super) static TIME_SOFTMAX: Layer = Layer {
    name: "time_softmax",
    sources: &[PARAMS, include_str!("../../../shaders/time_softmax.wgsl")],
    bindings: &[uniform("params"), read("x"), read("mask"), read_write("output")],
    constants: &[u("FEATURES"), u("MASKED"), u("WORKGROUP")],
};

/// Its uniform has [`REARRANGE_SIZES`].
pub(super) static REARRANGE: Layer = Layer {
    name: "rearrange",
    sources: &[include_str!("../../../shaders/rearrange.wgsl")],
    bindings: &[uniform("params"), read("x"), read_write("output")],
    constants: &[u("FEATURES"), u("OUT_FEATURES"), u("COLUMN"), u("REFLECTED"), u("WORKGROUP")],
};

pub(super) const REARRANGE_SIZES: &[&str] = &["rows", "batch", "numbers", "offset", "stride"];

pub(super) static LAYER_NORM: Layer = Layer {
    name: "layer_norm",
    sources: &[PARAMS, include_str!("../../../shaders/layer_norm.wgsl")],
    bindings: &[uniform("params"), read("x"), read("weight"), read("bias"), read_write("output")],
    constants: &[u("FEATURES"), f("EPS"), u("WORKGROUP")],
};

pub(super) static CHANNELWISE: Layer = Layer {
    name: "channelwise",
    sources: &[PARAMS, include_str!("../../../shaders/channelwise.wgsl")],
    bindings: &[uniform("params"), read("x"), read("channels"), read_write("output")],
    constants: &[u("FEATURES"), u("ACTIVATION"), f("ALPHA"), f("BETA"), u("WORKGROUP")],
};

pub(super) static COMBINE: Layer = Layer {
    name: "combine",
    sources: &[PARAMS, include_str!("../../../shaders/combine.wgsl")],
    bindings: &[uniform("params"), read("x"), read_write("output")],
    constants: &[
        u("COLUMNS"),
        u("IN_STRIDE"),
        u("IN_OFFSET"),
        u("OUT_STRIDE"),
        u("OUT_OFFSET"),
        u("HOW"),
        f("SCALE"),
        u("REVERSED"),
        u("WORKGROUP"),
    ],
};

pub(super) static POOL: Layer = Layer {
    name: "pool",
    sources: &[PARAMS, include_str!("../../../shaders/pool.wgsl")],
    bindings: &[uniform("params"), read("x"), read("mask"), read_write("output")],
    constants: &[
        u("FEATURES"),
        u("KERNEL"),
        u("STRIDE"),
        u("LEFT"),
        u("RIGHT"),
        u("HOW"),
        u("COUNT_PAD"),
        u("MASKED"),
        u("PAST"),
        u("WORKGROUP"),
    ],
};

pub(super) static PAST: Layer = Layer {
    name: "past",
    sources: &[PARAMS, include_str!("../../../shaders/past.wgsl")],
    bindings: &[uniform("params"), read("x"), read("past"), read("first"), read_write("output")],
    constants: &[u("FEATURES"), u("KEPT"), u("AFTER"), u("UNEVEN"), u("RATE"), u("WORKGROUP")],
};

pub(super) static CARRY: Layer = Layer {
    name: "carry",
    sources: &[PARAMS, include_str!("../../../shaders/carry.wgsl")],
    bindings: &[uniform("params"), read("source"), read("mask"), read_write("output")],
    constants: &[u("FEATURES"), u("MASKED"), u("WITHIN"), u("WORKGROUP")],
};

pub(super) static SLOTS: Layer = Layer {
    name: "slots",
    sources: &[PARAMS, include_str!("../../../shaders/slots.wgsl")],
    bindings: &[uniform("params"), read("slots"), read("source"), read_write("output")],
    constants: &[u("WIDTH"), u("SCATTER"), u("WORKGROUP")],
};

pub(super) static CHOOSE: Layer = Layer {
    name: "choose",
    sources: &[PARAMS, LOGITS, RANDOM, include_str!("../../../shaders/choose.wgsl")],
    bindings: &[
        uniform("params"),
        read("x"),
        read("settings"),
        read_write("input"),
        read_write("slots"),
        read_write("progress"),
        read_write("output"),
    ],
    constants: &[u("FEATURES"), u("SAMPLE"), u("WORKGROUP")],
};

pub(super) static CANDIDATES: Layer = Layer {
    name: "candidates",
    sources: &[PARAMS, LOGITS, include_str!("../../../shaders/candidates.wgsl")],
    bindings: &[uniform("params"), read("x"), read_write("output")],
    constants: &[u("FEATURES"), u("COUNT"), u("WORKGROUP")],
};

/// The shares of the keys.
pub(super) fn attention_shares() -> KernelSpec {
    KernelSpec {
        name: "attention_shares".into(),
        entry_point: "attention_shares",
        sources: vec![ACTIVATIONS, include_str!("../../../shaders/attention_shares.wgsl")],
        bindings: vec![
            uniform("params"),
            read("keys"),
            read("queries"),
            read("weight"),
            read("mask"),
            read("banks"),
            read_write("output"),
        ],
        sizes: OF_HEADS,
        constants: vec![u("FEATURES"), u("HEADS"), u("ADDITIVE"), f("SCALE"), u("MASKED"), u("BANKED"), u("WORKGROUP")],
    }
}

/// Sums of rows with shares.
pub(super) fn attention_sum() -> KernelSpec {
    KernelSpec {
        name: "attention_sum".into(),
        entry_point: "attention_sum",
        sources: vec![ACTIVATIONS, include_str!("../../../shaders/attention_sum.wgsl")],
        bindings: vec![
            uniform("params"),
            read("shares"),
            read("x"),
            read("own"),
            read("weight"),
            read("banks"),
            read_write("output"),
        ],
        sizes: &["rows", "first", "batch", "others", "steps"],
        constants: vec![
            u("FEATURES"),
            u("HEADS"),
            u("HOW"),
            f("SCALE"),
            u("TURNED"),
            u("ADD"),
            u("BANKED"),
            u("WORKGROUP"),
        ],
    }
}

/// Sizes of a kernel of one workgroup for each head of a query.
pub(super) const OF_HEADS: &[&str] = &["rows", "first", "batch", "steps"];

/// A row of the table.
pub(super) struct Layer {
    pub name: &'static str,
    pub sources: &'static [&'static str],
    pub bindings: &'static [Binding],
    pub constants: &'static [Constant],
}

impl Layer {
    /// As what every kernel is, its entry point of that name.
    pub fn spec(&self, entry_point: &'static str) -> KernelSpec {
        KernelSpec {
            name: self.name.into(),
            entry_point,
            sources: self.sources.to_vec(),
            bindings: self.bindings.to_vec(),
            sizes: &[],
            constants: self.constants.to_vec(),
        }
    }

    /// The reading side of a matrix product with the rest of it.
    pub fn product(&self, ProductKernel { format, tiling }: ProductKernel) -> KernelSpec {
        let mut spec = self.spec("linear");
        spec.sources.push(PRODUCT);
        match tiling {
            Tiling::Square => spec.sources.push(include_str!("../../../shaders/linear.wgsl")),
            Tiling::Rows => spec.sources.push(include_str!("../../../shaders/linear_rows.wgsl")),
            Tiling::Matrix(side) => {
                spec.sources.extend(matrix_sources(side));
                spec.sources.push(include_str!("../../../shaders/linear_matrix.wgsl"));
                spec.constants.extend([u("BLOCKS"), u("STRIPS"), u("SUBGROUP")]);
            }
        }
        spec.sources.push(match format {
            WeightFormat::F32 => include_str!("../../../shaders/weights/f32_matrix.wgsl"),
            WeightFormat::F16 => include_str!("../../../shaders/weights/f16_matrix.wgsl"),
            WeightFormat::Int8 => include_str!("../../../shaders/weights/int8_matrix.wgsl"),
        });
        match tiling {
            Tiling::Square => {}
            Tiling::Rows => spec.name += " rows",
            Tiling::Matrix(side) => spec.name += &format!(" matrix {}", side.length()),
        }
        if format != WeightFormat::F32 {
            spec.name += &format!(" {format}");
        }
        spec
    }
}
