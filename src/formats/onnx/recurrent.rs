//! The operators LSTM, GRU and RNN.

use super::array::Array;
use super::graph::OnnxNode;
use super::states::StateRows;
use super::value::{AxisLabel, Dim, Id, LabelledTensor, LayerDirection, Of, RecurrentPart, Value};
use super::walk::Walk;
use super::words;
use crate::base::error::{Error, Result};
use crate::network::{Activation, Cell, HiddenOrCell, LayerSpec, RecurrentOutput, RecurrentSpec};

/// Where each of gatefold's gates stands among ONNX's.
fn gate_order(cell: Cell) -> &'static [usize] {
    match cell {
        Cell::Lstm => &[0, 2, 3, 1], // i, f, g, o out of i, o, f, c
        Cell::Gru => &[1, 0, 2],     // r, z, n out of z, r, h
        _ => &[0, 1, 2, 3][..cell.gates()],
    }
}

/// As [`gate_order`], for the peepholes i, o, f.
const PEEPHOLE_ORDER: [usize; 3] = [0, 2, 1];

/// Where a recurrence starts.
pub enum InitialState {
    Zero,
    /// The caller's, and the rows that it is of a tensor of the graph, where they are known.
    Caller(Option<StateRows>),
    /// `[D, H]`
    Stored(Vec<f32>),
    /// An expression `[B, D*H]`.
    Computed(Id),
}

impl Walk<'_> {
    pub fn recurrent(&mut self, node: &OnnxNode) -> Result<Vec<Value>> {
        let (cell, own): (Cell, &[&str]) = match node.op.as_str() {
            "LSTM" | "com.microsoft.DynamicQuantizeLSTM" => (Cell::Lstm, &["input_forget"]),
            "GRU" => (Cell::Gru, &["linear_before_reset"]),
            _ => (Cell::Rnn, &[]),
        };
        let common =
            ["activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "layout"];
        node.allow(&[&common[..], own].concat())?;
        let time_first = match node.int("layout", 0)? {
            0 => true,
            1 => false,
            other => return Err(node.malformed("layout 0 or 1", other.to_string())),
        };
        let (reverse, bidirectional) = match node.text("direction", "forward")?.as_str() {
            "forward" => (false, false),
            "reverse" => (true, false),
            "bidirectional" => (false, true),
            other => return Err(node.malformed("direction forward, reverse or bidirectional", format!("{other:?}"))),
        };
        let directions = if bidirectional { 2 } else { 1 };

        let mut x = self.tensor(node, 0)?;
        if x.axes.last() == Some(&AxisLabel::Time) {
            x = self.turned(node, &x)?.unwrap_or(x);
        }
        let mut input = self.settle(node, &x)?;
        let input_size = x.width;
        let weight = |index: usize, name: &str, scale: usize| match node.op.as_str() {
            "LSTM" | "GRU" | "RNN" => self.weight(node, index, name),
            _ => self.dynamic_weight(node, index, scale),
        };
        let (w, r) = (weight(1, "W", 8)?, weight(2, "R", 10)?);
        let [_, _, hidden_size] = r.shape[..] else { return Err(shape_error(node, "R", "[D, G*H, H]", &r)) };
        let rows = cell.gates() * hidden_size;
        for (name, array, shape) in
            [("W", &w, vec![directions, rows, input_size]), ("R", &r, vec![directions, rows, hidden_size])]
        {
            if array.shape != shape {
                self.misfit = true;
                return Err(shape_error(node, name, &format!("{shape:?}"), array));
            }
        }
        if node.has("hidden_size") && usize::try_from(node.int("hidden_size", 0)?) != Ok(hidden_size) {
            return Err(node.malformed(
                format!("hidden_size {hidden_size}, as R has it"),
                node.int("hidden_size", 0)?.to_string(),
            ));
        }

        let name = self.build.unique(&node.name);
        let mut spec = RecurrentSpec::new(name.clone(), input_size, hidden_size);
        spec.reverse = reverse;
        spec.bidirectional = bidirectional;
        spec.batch_first = self.build.batch_first;
        spec.coupled = node.int("input_forget", 0)? != 0;
        spec.reset_after = cell != Cell::Gru || node.int("linear_before_reset", 0)? != 0;
        spec.clip = if node.has("clip") { Some(node.float("clip", 0.0)?) } else { None };
        spec.activations = activations(node, cell, directions)?;

        let order = gate_order(cell);
        for direction in 0..directions {
            let suffix = if direction == 1 { "_reverse" } else { "" };
            for (tensor, array, width) in [("weight_ih", &w, input_size), ("weight_hh", &r, hidden_size)] {
                let all = array.as_floats().unwrap_or_default();
                let data = blocks(&all[direction * rows * width..][..rows * width], order, hidden_size * width);
                self.build.tensor(&name, &format!("{tensor}_l0{suffix}"), vec![rows, width], data)?;
            }
        }
        spec.bias = self.bias(node, &name, order, [directions, rows, hidden_size])?;
        spec.peephole = self.peepholes(node, cell, &name, [directions, hidden_size])?;
        // Behind what does not depend on how the input's axes are read, so that this is what an error says.
        self.expect_sequence(node, &x, time_first)?;
        self.lengths(node, &x, &name)?;
        if !self.build.expressions.facts(input).sequence {
            // One timestep, of a row.
            input = self.row_as_steps(node, input, input_size, 1)?;
            x.steps = Dim::Known(1);
        }

        let rows = x.dims(self.batch)[usize::from(time_first)];
        let h = self.start(node, 5, rows, time_first, [directions, hidden_size])?;
        let c = self.start(node, 6, rows, time_first, [directions, hidden_size])?;
        if cell != Cell::Lstm && !matches!(c, InitialState::Zero) {
            return Err(node.unsupported("initial_c without an LSTM"));
        }
        self.store_start(node, &mut spec, cell, h, c, [directions, hidden_size])?;

        let sequence = self.used(node, 0);
        spec.output = if sequence { RecurrentOutput::Sequence } else { RecurrentOutput::Last };
        let layer = LayerSpec::of_cell(cell, spec);
        let read = self.build.emit(input)?;
        let reads = self.reads_of(read, &layer);
        self.build.layer_of(reads, &name, layer, directions * hidden_size, sequence)?;
        let index = self.build.layers.len() - 1;
        let rows: Vec<LayerDirection> =
            (0..directions).map(|direction| LayerDirection { layer: index, direction }).collect();
        let d = if directions == 1 { AxisLabel::Unit } else { AxisLabel::Direction };
        let output = |part: RecurrentPart| {
            let axes = match (part, time_first) {
                (RecurrentPart::Y, true) => vec![AxisLabel::Time, d, AxisLabel::Batch, AxisLabel::Channel],
                (RecurrentPart::Y, false) => vec![AxisLabel::Batch, AxisLabel::Time, d, AxisLabel::Channel],
                (_, true) => vec![d, AxisLabel::Batch, AxisLabel::Channel],
                (_, false) => vec![AxisLabel::Batch, d, AxisLabel::Channel],
            };
            let of = Of::Directions { part, rows: rows.clone() };
            Value::Tensor(LabelledTensor { of, axes, width: hidden_size, steps: x.steps })
        };
        let mut outputs = vec![output(RecurrentPart::Y), output(RecurrentPart::H)];
        if cell == Cell::Lstm {
            outputs.push(output(RecurrentPart::C));
        }
        Ok(outputs)
    }

    /// Stores where a layer starts, if that is not 0.
    pub fn store_start(
        &mut self,
        node: &OnnxNode,
        spec: &mut RecurrentSpec,
        cell: Cell,
        h: InitialState,
        c: InitialState,
        [directions, hidden]: [usize; 2],
    ) -> Result<()> {
        let computed = |start: &InitialState| match start {
            InitialState::Computed(id) => Some(*id),
            _ => None,
        };
        let (own_h, own_c) = (computed(&h), computed(&c));
        if own_h.is_some() || own_c.is_some() {
            let others = [&h, &c].map(|start| matches!(start, InitialState::Stored(_) | InitialState::Caller(_)));
            if others.contains(&true) {
                return Err(node.unsupported("a computed state together with one that is stored or given"));
            }
            spec.initial_h = own_h.map(|id| self.build.emit(id)).transpose()?;
            spec.initial_c = own_c.map(|id| self.build.emit(id)).transpose()?;
            return Ok(());
        }
        let stored = |start: &InitialState| matches!(start, InitialState::Stored(_));
        if !stored(&h) && !stored(&c) {
            for (start, part) in [(h, HiddenOrCell::H), (c, HiddenOrCell::C)] {
                if let InitialState::Caller(rows) = start {
                    self.give_rows(rows, &spec.name, part, directions);
                }
            }
            return Ok(());
        }
        for (part, start) in [("initial_h", h), ("initial_c", c)] {
            let data = match start {
                InitialState::Zero => vec![0.0; directions * hidden],
                InitialState::Stored(data) => data,
                InitialState::Caller(_) | InitialState::Computed(_) => {
                    return Err(node.unsupported("a stored state together with one that the caller gives"));
                }
            };
            if part == "initial_h" || cell == Cell::Lstm {
                self.build.tensor(&spec.name, part, vec![directions, hidden], data)?;
            }
        }
        spec.initial_state = true;
        Ok(())
    }

    fn weight(&self, node: &OnnxNode, index: usize, name: &str) -> Result<std::rc::Rc<Array>> {
        match self.value(node, index)? {
            Value::Constant(array) if array.as_floats().is_some() => Ok(array),
            _ => Err(node.unsupported(format!("{name} that is no constant of floats"))),
        }
    }

    /// Stores Wb and Rb, if there are any.
    fn bias(
        &mut self,
        node: &OnnxNode,
        name: &str,
        order: &[usize],
        [directions, rows, hidden]: [usize; 3],
    ) -> Result<bool> {
        if !self.given(node, 3) {
            return Ok(false);
        }
        let b = self.weight(node, 3, "B")?;
        if b.shape != [directions, 2 * rows] {
            return Err(shape_error(node, "B", &format!("[{directions}, {}]", 2 * rows), &b));
        }
        let all = b.as_floats().unwrap_or_default();
        for (at, half) in all.chunks_exact(rows.max(1)).enumerate() {
            let tensor = if at % 2 == 0 { "bias_ih" } else { "bias_hh" };
            let suffix = if at / 2 == 1 { "_reverse" } else { "" };
            self.build.tensor(name, &format!("{tensor}_l0{suffix}"), vec![rows], blocks(half, order, hidden))?;
        }
        Ok(true)
    }

    fn peepholes(&mut self, node: &OnnxNode, cell: Cell, name: &str, [directions, hidden]: [usize; 2]) -> Result<bool> {
        if cell != Cell::Lstm || !self.given(node, 7) {
            return Ok(false);
        }
        let p = self.weight(node, 7, "P")?;
        if p.shape != [directions, 3 * hidden] {
            return Err(shape_error(node, "P", &format!("[{directions}, {}]", 3 * hidden), &p));
        }
        let all = p.as_floats().unwrap_or_default();
        for (direction, numbers) in all.chunks_exact((3 * hidden).max(1)).enumerate() {
            let suffix = if direction == 1 { "_reverse" } else { "" };
            let data = blocks(numbers, &PEEPHOLE_ORDER, hidden);
            self.build.tensor(name, &format!("weight_p_l0{suffix}"), vec![3 * hidden], data)?;
        }
        Ok(true)
    }

    /// `sequence_lens` are the caller's, or say no more than T.
    fn lengths(&mut self, node: &OnnxNode, x: &LabelledTensor, name: &str) -> Result<()> {
        if !self.given(node, 4) {
            return Ok(());
        }
        match self.value(node, 4)? {
            Value::Lengths => {
                self.with_lengths.insert(name.to_owned());
                Ok(())
            }
            Value::Constant(array) => {
                let steps = |n: i64| usize::try_from(n).map(Dim::Known) == Ok(x.steps);
                match array.as_ints() {
                    Some(ints) if array.shape.len() == 1 && ints.iter().all(|&n| steps(n)) => Ok(()),
                    _ => Err(node.unsupported("constant sequence_lens other than T in every row")),
                }
            }
            Value::Size(size) if size == x.steps && size != Dim::Any => Ok(()),
            Value::Size(_)
            | Value::Fill { .. }
            | Value::Spread { .. }
            | Value::LastSteps { .. }
            | Value::RowNumbers { .. }
            | Value::LastPlaces(_)
            | Value::RowOrder { .. }
            | Value::Dims { .. }
            | Value::Tensor(_)
            | Value::State { .. }
            | Value::States(_) => Err(node.unsupported("computed sequence_lens")),
        }
    }

    /// The layers that a recurrent layer reads: its input, and those that give its initial state.
    #[expect(clippy::unused_self, reason = "a method among methods")]
    pub fn reads_of(&self, input: String, layer: &LayerSpec) -> Vec<String> {
        let states = layer.recurrent().into_iter().flat_map(|(_, spec)| [&spec.initial_h, &spec.initial_c]);
        std::iter::once(input).chain(states.flatten().cloned()).collect()
    }

    /// A state that is computed from the input.
    pub fn computed_start(
        &mut self,
        node: &OnnxNode,
        mut tensor: LabelledTensor,
        time_first: bool,
        [directions, hidden]: [usize; 2],
    ) -> Result<InitialState> {
        use AxisLabel::{Batch, Channel, Direction, Unit};
        let own = if directions == 1 { Unit } else { Direction };
        let fits = match (&tensor.axes[..], time_first) {
            (&[a, Batch, Channel], true) | (&[Batch, a, Channel], false) => a == own,
            // A loop's state.
            (&[Batch, Channel], _) => directions == 1,
            _ => false,
        };
        if !fits || tensor.width != hidden || (directions > 1 && tensor.directions() != directions) {
            let sizes = words::sized(&tensor.axes, &tensor.dims(self.batch));
            return Err(node.unsupported(format!("an initial state {sizes}")));
        }
        tensor.axes.retain(|&axis| axis != Direction);
        let id = self.settle(node, &tensor)?;
        if self.build.expressions.facts(id).sequence {
            return Err(node.unsupported("a sequence as an initial state"));
        }
        Ok(InitialState::Computed(id))
    }

    fn start(
        &mut self,
        node: &OnnxNode,
        index: usize,
        batch: Dim,
        time_first: bool,
        [directions, hidden]: [usize; 2],
    ) -> Result<InitialState> {
        if !self.given(node, index) {
            return Ok(InitialState::Zero);
        }
        let value = self.value(node, index)?;
        if let Value::Tensor(tensor) = &value {
            return self.computed_start(node, tensor.clone(), time_first, [directions, hidden]);
        }
        let dims = match &value {
            Value::State { dims, .. } | Value::Fill { dims, .. } => dims.clone(),
            Value::Spread { dims, .. } => Some(dims.clone()),
            Value::Constant(array) => Some(array.shape.iter().map(|&n| Dim::Known(n)).collect()),
            _ => return Err(node.unsupported("an initial state that is computed from the input")),
        };
        let (d, h) = (Dim::Known(directions), Dim::Known(hidden));
        let expected = if time_first { [d, batch, h] } else { [batch, d, h] };
        // A number of rows may be left open on one side only; that of directions and of units may not.
        let fits = |(at, (got, expected)): (usize, (&Dim, &Dim))| match (got, expected) {
            (Dim::Any, _) => true,
            (Dim::Known(_), open) | (open, Dim::Known(_)) if at == usize::from(time_first) => {
                got == expected || !matches!(open, Dim::Known(_))
            }
            _ => got == expected,
        };
        if let Some(dims) = dims
            && !(dims.len() == 3 && dims.iter().zip(&expected).enumerate().all(fits))
        {
            let letters = if time_first {
                format!("[{directions}, B, {hidden}]")
            } else {
                format!("[B, {directions}, {hidden}]")
            };
            return Err(node.malformed(format!("initial state of shape {letters}"), words::shape(&dims)));
        }
        match value {
            Value::State { id, .. } => {
                Ok(InitialState::Caller(self.rows_of(id).cloned().filter(|_| time_first || directions == 1)))
            }
            Value::Fill { value: 0.0, .. } => Ok(InitialState::Zero),
            Value::Fill { value, .. } => Ok(InitialState::Stored(vec![value; directions * hidden])),
            Value::Constant(array) | Value::Spread { array, .. } => {
                let Some(all) = array.as_floats() else { return Err(node.unsupported("an initial state of integers")) };
                if all.iter().all(|&x| x == 0.0) {
                    return Ok(InitialState::Zero);
                }
                let batch = array.shape[usize::from(time_first)];
                let row = |b: usize, d: usize| {
                    let at = if time_first { d * batch + b } else { b * directions + d };
                    &all[at * hidden..][..hidden]
                };
                if (0..directions).any(|d| (1..batch).any(|b| row(b, d) != row(0, d))) {
                    return Err(node.unsupported("a constant initial state that differs between batch rows"));
                }
                Ok(InitialState::Stored((0..directions).flat_map(|d| row(0, d).iter().copied()).collect()))
            }
            _ => Err(node.unsupported("an initial state that is computed from the input")),
        }
    }
}

fn shape_error(node: &OnnxNode, tensor: &str, expected: &str, got: &Array) -> Error {
    node.malformed(format!("{tensor} of shape {expected}"), format!("{:?}", got.shape))
}

/// The blocks of `numbers`, each `size` long, in another order.
fn blocks(numbers: &[f32], order: &[usize], size: usize) -> Vec<f32> {
    order.iter().flat_map(|&block| numbers[block * size..][..size].iter().copied()).collect()
}

/// The functions of all directions; empty where they are the cell's own.
fn activations(node: &OnnxNode, cell: Cell, directions: usize) -> Result<Vec<Activation>> {
    let names = node.texts("activations")?;
    let (mut alphas, mut betas) = (node.floats("activation_alpha")?.iter(), node.floats("activation_beta")?.iter());
    let own = cell.default_activations();
    let names: Vec<String> = match names.len() {
        0 if !node.has("activations") => {
            own.iter().map(|a| format!("{a:?}")).cycle().take(own.len() * directions).collect()
        }
        given if given == own.len() * directions => names,
        given => {
            return Err(node.malformed(format!("{} activations", own.len() * directions), given.to_string()));
        }
    };
    let mut functions = Vec::with_capacity(names.len());
    for name in names {
        let mut alpha = |default: f32| alphas.next().copied().unwrap_or(default);
        let mut beta = |default: f32| betas.next().copied().unwrap_or(default);
        functions.push(match name.to_lowercase().as_str() {
            "relu" => Activation::Relu,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            "affine" => Activation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
            "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
            "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
            "scaledtanh" => Activation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
            "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
            "elu" => Activation::Elu { alpha: alpha(1.0) },
            "softsign" => Activation::Softsign,
            "softplus" => Activation::Softplus,
            _ => return Err(node.unsupported(format!("activation `{name}`"))),
        });
    }
    if alphas.next().is_some() || betas.next().is_some() {
        return Err(node.unsupported("more activation_alpha or activation_beta than its activations take"));
    }
    Ok(if functions.chunks(own.len()).all(|set| set == own) { Vec::new() } else { functions })
}
