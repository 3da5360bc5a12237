//! The parameters of every layer: what each is for, its name and its shape. Loading, checking, random weights, the
//! reference and both devices take them from here.

use super::gates::{PEEPHOLES, SRU_PEEPHOLES};
use super::{AttentionScore, Cell, CellNorm, GateNorm, LayerSpec, NetworkSpec, Recurrence, RecurrentSpec, ScanCell};

/// What a parameter is for; a tensor's name ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// A table, a matrix, filters, or the scale of a normalization.
    Weight,
    /// What is added last.
    Bias,
    /// The mean of a batch normalization.
    RunningMean,
    /// Its variance.
    RunningVar,
    /// W of a recurrence, `[G*H, I]`.
    WeightIh,
    /// U of a recurrence, `[G*H, H]`, `[G*H, P]` with a projection; of an IndRNN `[H]`, of an sLSTM `[4H, H / heads]`.
    WeightHh,
    /// `[G*H]`, added to W x.
    BiasIh,
    /// `[G*H]`, added to U h.
    BiasHh,
    /// The projection of an LSTM, `[P, H]`.
    WeightHr,
    /// The peepholes of an LSTM, `[3H]`, or of an SRU, `[2H]`.
    WeightP,
    /// Of a layer-normalized cell, the scale of `W x + U h`, `[G*H]`.
    NormWeight,
    /// Its offset.
    NormBias,
    /// The scale of `W x`, `[G*H]`.
    NormIhWeight,
    /// Its offset.
    NormIhBias,
    /// The scale of `U h`, `[G*H]`.
    NormHhWeight,
    /// Its offset.
    NormHhBias,
    /// The scale of c, `[H]`.
    NormCWeight,
    /// Its offset.
    NormCBias,
    /// The h that a layer starts from, `[L*D, H]` or `[L*D, P]`.
    InitialH,
    /// The c that a layer starts from, `[L*D, H]`.
    InitialC,
    /// What the controller gives the heads of a memory, `[P, H]`.
    HeadsWeight,
    /// `[P]`
    HeadsBias,
    /// The memory that a layer starts from, `[N, M]`, which is not trained.
    FixedMemory,
    /// The same, which is trained.
    InitialMemory,
    /// What was read before the first timestep, `[1, R*M]`.
    InitialRead,
    /// The weights of the heads before the first timestep, `[K, N]`, before a softmax.
    InitialWeights,
}

impl Role {
    /// Whether it is a scale or a variance, whose neutral value is 1.
    pub(super) fn is_scale(self) -> bool {
        matches!(
            self,
            Self::RunningVar | Self::NormWeight | Self::NormIhWeight | Self::NormHhWeight | Self::NormCWeight
        )
    }

    /// Whether it is no weight to train: a statistic of a batch normalization, or a memory that stays.
    pub(crate) fn is_statistic(self) -> bool {
        matches!(self, Self::RunningMean | Self::RunningVar | Self::FixedMemory)
    }

    /// PyTorch's name, without a level's suffix.
    pub(super) fn tensor(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
            Self::RunningMean => "running_mean",
            Self::RunningVar => "running_var",
            Self::WeightIh => "weight_ih",
            Self::WeightHh => "weight_hh",
            Self::BiasIh => "bias_ih",
            Self::BiasHh => "bias_hh",
            Self::WeightHr => "weight_hr",
            Self::WeightP => "weight_p",
            Self::NormWeight => "norm_weight",
            Self::NormBias => "norm_bias",
            Self::NormIhWeight => "norm_ih_weight",
            Self::NormIhBias => "norm_ih_bias",
            Self::NormHhWeight => "norm_hh_weight",
            Self::NormHhBias => "norm_hh_bias",
            Self::NormCWeight => "norm_c_weight",
            Self::NormCBias => "norm_c_bias",
            Self::InitialH => "initial_h",
            Self::InitialC => "initial_c",
            Self::HeadsWeight => "heads.weight",
            Self::HeadsBias => "heads.bias",
            Self::FixedMemory | Self::InitialMemory => "memory",
            Self::InitialRead => "initial_read",
            Self::InitialWeights => "initial_weights",
        }
    }
}

/// A parameter of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// What it is for.
    pub role: Role,
    /// The direction of a recurrent level that it belongs to, else 0.
    pub direction: usize,
    /// Name of its tensor.
    pub name: String,
    /// Shape of its tensor.
    pub shape: Vec<usize>,
    /// Whether products read it, so that it may be stored in another [`WeightFormat`](super::WeightFormat).
    pub is_matrix: bool,
}

/// Names and shapes of the tensors that `spec` needs, in file order.
#[must_use]
pub fn expected_tensors(spec: &NetworkSpec) -> Vec<(String, Vec<usize>)> {
    let params = spec.layers.iter().flat_map(of_layer).flatten();
    params.map(|param| (param.name, param.shape)).collect()
}

/// The parameters of each stage of `layer`, in file order; stages after those that are listed have none.
pub(super) fn of_layer(layer: &LayerSpec) -> Vec<Vec<Param>> {
    if let Some((cell, spec)) = layer.recurrent() {
        return (0..spec.num_layers).map(|level| of_level(cell, spec, level)).collect();
    }
    let own = |role: Role, shape: &[usize], is_matrix: bool| {
        let name = format!("{}.{}", layer.name(), role.tensor());
        Param { role, direction: 0, name, shape: shape.to_vec(), is_matrix }
    };
    let matrix = |shape: &[usize], bias: bool| {
        let bias = bias.then(|| own(Role::Bias, &shape[..1], false));
        vec![Some(own(Role::Weight, shape, true)).into_iter().chain(bias).collect()]
    };
    match layer {
        LayerSpec::Embedding(e) => vec![vec![own(Role::Weight, &[e.num_embeddings, e.embedding_dim], false)]],
        LayerSpec::Dense(d) => matrix(&[d.out_features, d.in_features], d.bias),
        LayerSpec::Conv1d(c) => matrix(&[c.out_channels, c.in_channels / c.groups.max(1), c.kernel_size], c.bias),
        LayerSpec::Ntm(n) => vec![n.params()],
        LayerSpec::Attention(a) if a.score == AttentionScore::Additive => {
            vec![vec![own(Role::Weight, &[a.embed_dim], false)]]
        }
        LayerSpec::LayerNorm(n) | LayerSpec::BatchNorm(n) => {
            let statistics = matches!(layer, LayerSpec::BatchNorm(_));
            let all = [
                (n.weight, Role::Weight),
                (n.bias, Role::Bias),
                (statistics, Role::RunningMean),
                (statistics, Role::RunningVar),
            ];
            let kept = all.into_iter().filter(|(kept, _)| *kept);
            vec![kept.map(|(_, role)| own(role, &[n.num_features], false)).collect()]
        }
        _ => Vec::new(),
    }
}

/// The parameters of one level, and with the last those of the whole layer.
pub(super) fn of_level(cell: Cell, spec: &RecurrentSpec, level: usize) -> Vec<Param> {
    let (hidden, width) = (spec.hidden_size, spec.state_size());
    let rows = cell.gates() * hidden;
    let inputs = if level == 0 { spec.input_size } else { spec.level_size() };
    let mut params = Vec::new();
    for direction in 0..spec.directions() {
        let suffix = if direction == 1 { "_reverse" } else { "" };
        let mut add = |wanted: bool, role: Role, shape: &[usize]| {
            if wanted {
                let name = format!("{}.{}_l{level}{suffix}", spec.name, role.tensor());
                params.push(Param { role, direction, name, shape: shape.to_vec(), is_matrix: shape.len() == 2 });
            }
        };
        add(true, Role::WeightIh, &[rows, inputs]);
        let recurrence = Recurrence::new(cell, spec);
        match recurrence.scan() {
            None => add(true, Role::WeightHh, &[rows, width / recurrence.num_heads()]),
            Some(scan) => add(scan == ScanCell::IndRnn, Role::WeightHh, &[hidden]),
        }
        match recurrence.normalization() {
            None => {
                add(spec.bias, Role::BiasIh, &[rows]);
                add(spec.bias && !cell.scans(), Role::BiasHh, &[rows]);
            }
            Some(how) => {
                let [sum, parts] = [GateNorm::Sum, GateNorm::Parts].map(|norm| how.gate_norm == norm);
                let norms = [
                    (sum, Role::NormWeight, Role::NormBias, rows),
                    (parts, Role::NormIhWeight, Role::NormIhBias, rows),
                    (parts, Role::NormHhWeight, Role::NormHhBias, rows),
                    (how.cell_norm != CellNorm::None, Role::NormCWeight, Role::NormCBias, hidden),
                ];
                for (wanted, weight, bias, width) in norms {
                    add(wanted, weight, &[width]);
                    add(wanted && spec.bias, bias, &[width]);
                }
            }
        }
        add(spec.proj_size > 0, Role::WeightHr, &[spec.proj_size, hidden]);
        let peepholes = if cell.scans() { SRU_PEEPHOLES } else { PEEPHOLES };
        add(spec.peephole, Role::WeightP, &[peepholes * hidden]);
    }
    if spec.initial_state && level + 1 == spec.num_layers {
        let rows = spec.num_layers * spec.directions();
        let mut add = |role: Role, width: usize| {
            let name = format!("{}.{}", spec.name, role.tensor());
            params.push(Param { role, direction: 0, name, shape: vec![rows, width], is_matrix: false });
        };
        add(Role::InitialH, width);
        if cell.keeps_c() {
            add(Role::InitialC, hidden);
        }
    }
    params
}
