"""Voice detectors as Silero publishes them, small and with random weights: samples of a frame to a probability, with a state.

    /tmp/ort/bin/python generate_onnx_voice.py OUT        # the models and onnx_voice.zip, ONNX Runtime's numbers
    /tmp/ort/bin/python generate_onnx_voice.py OUT real   # `silero.onnx` of the shared weights and its numbers over the recording

Five files differ in how the exporter wrote one network: `two_rates` (two networks in the branches of an If on the sample rate),
`one_rate` (no rate; questions about sizes as Ifs, as torch.onnx writes an LSTMCell), `rate_unused` (the rate times 0 is added to
the state), `apart` (an If on the rate; the LSTM's step in its parts), `fixed` (all sizes known). Goldens hold frames `input`
[F, B, N] in order, `output` [F, B, 1] and `state` [F, 2, B, H], the state being carried from frame to frame from 0; the first
two also `input 8000` and so on for the other rate.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from onnx_bundle import bundle, write_golden

FRAMES = 4
KINDS = ("two_rates", "one_rate", "rate_unused", "apart", "fixed")
OPSET = 16


class Sizes:
    """Of one network: samples of the transform and from one to the next, and channels."""

    def __init__(self, window, hop, channels):
        self.window, self.hop, self.channels = window, hop, channels
        self.bins, self.hidden = window // 2 + 1, channels[-1]
        # Four transforms, which the strides reduce to one.
        self.pad = window // 4
        self.samples = 3 * hop + window - self.pad


def weights(sizes, rng):
    small = lambda *shape: (rng.normal(size=shape) * 0.7).astype(np.float32)
    widths = [sizes.bins, *sizes.channels]
    tensors = {"basis": small(2 * sizes.bins, 1, sizes.window)}
    for at, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        tensors |= {f"conv{at}.weight": small(outputs, inputs, 3), f"conv{at}.bias": small(outputs)}
    h = sizes.hidden
    tensors |= {"w": small(4 * h, h), "r": small(4 * h, h), "bw": small(4 * h), "br": small(4 * h)}
    # Of both signs alike, so that the probability does not saturate.
    signs = np.where(np.arange(h) % 2, 1, -1).astype(np.float32).reshape(1, h, 1)
    return tensors | {"head.weight": signs * (1 + np.abs(small(1, h, 1))), "head.bias": small(1) * 0.1}


def shared_weights(data):
    """Those of the published network."""
    blob = (data / "silero_vad_16k.safetensors").read_bytes()
    length = struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8 : 8 + length])
    read = lambda name: np.frombuffer(
        blob[8 + length + header[name]["data_offsets"][0] : 8 + length + header[name]["data_offsets"][1]], "<f4"
    ).reshape(header[name]["shape"])
    tensors = {"basis": read("stft_conv.weight"), "head.weight": read("final_conv.weight"), "head.bias": read("final_conv.bias")}
    for at in range(4):
        tensors |= {f"conv{at}.{part}": read(f"conv{at + 1}.{part}") for part in ("weight", "bias")}
    names = {"w": "weight_ih", "r": "weight_hh", "bw": "bias_ih", "br": "bias_hh"}
    return tensors | {ours: read(f"lstm_cell.{theirs}") for ours, theirs in names.items()}


class Graph:
    """Nodes in order, with names that begin with `prefix`."""

    def __init__(self, prefix):
        self.prefix, self.nodes, self.count = prefix, [], 0

    def __call__(self, op, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"{self.prefix}{op}_{self.count}_{at}" for at in range(outputs)]
        inputs = [self.constant(x) if isinstance(x, (np.ndarray, list, int, float)) else x for x in inputs]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, x):
        array = x if isinstance(x, np.ndarray) else np.array(x, np.float32 if isinstance(x, float) else np.int64)
        self.count += 1
        name = f"{self.prefix}constant_{self.count}"
        self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        return name

    def choice(self, condition, then, other):
        """`then` and `other` fill a graph each and give its outputs."""
        branches, given = {}, 0
        self.count += 1
        for name, fill in (("then_branch", then), ("else_branch", other)):
            inner = Graph(f"{self.prefix}{name[:4]}{self.count}_")
            outputs = fill(inner)
            given = len(outputs)
            infos = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs]
            branches[name] = helper.make_graph(inner.nodes, f"{inner.prefix}graph", [], infos)
        return self("If", condition, outputs=given, **branches)


def front(g, sizes, w):
    """Samples to `[B, channels, 1]`."""
    # torch.onnx turns its order of padding, last axis first, into ONNX's.
    pads = g("Concat", [0, sizes.pad], g("ConstantOfShape", [2], value=helper.make_tensor("zero", TensorProto.INT64, [1], [0])), axis=0)
    pads = g("Slice", g("Reshape", pads, [-1, 2]), [-1], [-(2**63) + 1], [0], [-1])
    pads = g("Cast", g("Reshape", g("Transpose", pads, perm=[1, 0]), [-1]), to=TensorProto.INT64)
    x = g("Conv", g("Unsqueeze", g("Pad", "input", pads, mode="reflect"), [1]), w["basis"], strides=[sizes.hop], kernel_shape=[sizes.window])
    x = g("Slice", x, [0], [2**63 - 1], [0], [1])
    half = lambda start, end: g("Cast", g("Slice", g("Slice", x, [start], [end], [1], [1]), [0], [2**63 - 1], [2], [1]), to=TensorProto.FLOAT)
    x = g("Sqrt", g("Add", g("Pow", half(0, sizes.bins), 2.0), g("Pow", half(sizes.bins, 2**63 - 1), 2.0)))
    for at, stride in enumerate((1, 2, 2, 1)):
        x = g("Relu", g("Conv", x, w[f"conv{at}.weight"], w[f"conv{at}.bias"], strides=[stride], pads=[1, 1], kernel_shape=[3]))
    return x


def step(g, x, h, c, sizes, w):
    """h and c `[B, H]` after a step of an LSTM from h and c `[B, H]`."""
    size = sizes.hidden
    in_order = lambda m: g("Concat", *(g("Slice", w[m], [a], [b], [0]) for a, b in ((0, size), (3 * size, 4 * size), (size, 3 * size))), axis=0)
    bias = g("Unsqueeze", g("Concat", in_order("bw"), in_order("br"), axis=0), [0])
    inputs = [g("Unsqueeze", x, [0]), g("Unsqueeze", in_order("w"), [0]), g("Unsqueeze", in_order("r"), [0]), bias]
    states = [g("Unsqueeze", h, [0]), g("Unsqueeze", c, [0])]
    _, h, c = g("LSTM", *inputs, "", *states, outputs=3, hidden_size=size)
    return g("Squeeze", h, [0]), g("Squeeze", c, [0])


def step_of_sizes_known(g, x, sizes, w):
    states = (g("Gather", "state", at, axis=0) for at in (0, 1))
    return step(g, g("Squeeze", x, [-1]), *states, sizes, w)


def step_by_sizes(g, x, sizes, w):
    """As torch.onnx exports an LSTMCell: with questions about the ranks of its inputs, and about the state's presence."""
    last = g("Gather", g("Shape", x), [-1], axis=0)
    x = g.choice(g("Equal", last, [1]), lambda t: [t("Squeeze", x, [-1])], lambda e: [e("Identity", x)])

    def cell(b, h, c):
        row = b("Not", b("Equal", b("Size", b("Shape", x)), 2))
        bare = lambda names: lambda e: [e("Identity", name) for name in names]
        wide = b.choice(b("Cast", row, to=TensorProto.BOOL), lambda t: [t("Unsqueeze", x, [0])], bare([x]))
        states = b.choice(row, lambda t: [t("Unsqueeze", h, [0]), t("Unsqueeze", c, [0])], bare([h, c]))
        h, c = step(b, wide, *states, sizes, w)

        def narrow(t):
            one = lambda name: t.choice(
                t("Equal", t("Gather", t("Shape", name), [0], axis=0), [1]), lambda u: [u("Squeeze", name, [0])], bare([name])
            )
            return [one(h), one(c)]

        return b.choice(row, narrow, bare([h, c]))

    def begun(b):
        return cell(b, *(b("Gather", "state", at, axis=0) for at in (0, 1)))

    def fresh(b):
        rows = b("Unsqueeze", b("Gather", b("Shape", x), 0, axis=0), [0])
        zeros = b("ConstantOfShape", b("Concat", rows, [sizes.hidden], axis=0))
        return cell(b, zeros, zeros)

    given = g("Cast", g("Squeeze", g("Gather", g("Shape", "state"), [0], axis=0), [0]), to=TensorProto.BOOL)
    return g.choice(given, begun, fresh)


def step_apart(g, x, sizes, w):
    """The LSTM's equations."""
    x = g("Gather", x, 0, axis=2)
    h, c = (g("Gather", "state", at, axis=0) for at in (0, 1))
    z = g("Add", g("Gemm", h, w["r"], w["br"], transB=1), g("Gemm", x, w["w"], w["bw"], transB=1))
    i, f, new, o = g("Split", z, outputs=4, axis=1, num_outputs=4)
    c = g("Add", g("Mul", g("Sigmoid", f), c), g("Mul", g("Sigmoid", i), g("Tanh", new)))
    return g("Mul", g("Sigmoid", o), g("Tanh", c)), c


def head(g, h, c, w):
    x = g("Conv", g("Relu", g("Cast", g("Unsqueeze", h, [-1]), to=TensorProto.FLOAT)), w["head.weight"], w["head.bias"], kernel_shape=[1])
    x = g("Squeeze", g("Sigmoid", x), [1])
    mean = g("ReduceMean", x, axes=[1], keepdims=0) if OPSET < 18 else g("ReduceMean", x, [1], keepdims=0)
    return g("Unsqueeze", mean, [1]), g("Concat", g("Unsqueeze", h, [0]), g("Unsqueeze", c, [0]), axis=0)


def whole(g, sizes, w, cell):
    h, c = cell(g, front(g, sizes, w), sizes, w)
    return head(g, h, c, w)


def model(kind, networks):
    """`networks`: sizes and weights, for 16 kHz and for 8 kHz."""
    global OPSET
    OPSET = 18 if kind == "apart" else 15 if kind == "rate_unused" else 16
    g = Graph("n_")
    (sizes, w), *rest = networks
    hidden, cell = sizes.hidden, {"apart": step_apart, "fixed": step_of_sizes_known}.get(kind, step_by_sizes)
    if kind in ("two_rates", "apart"):
        rate = g("Gather", g("Reshape", "sr", [-1]), 0, axis=0) if kind == "apart" else "sr"
        branch = lambda sizes, w: lambda b: list(whole(b, sizes, w, cell))
        output, state = g.choice(g("Equal", rate, 16000), branch(sizes, w), branch(*rest[0]))
    else:
        output, state = whole(g, sizes, w, cell)
    if kind == "rate_unused":
        state = g("Add", state, g("Cast", g("Mul", "sr", 0), to=TensorProto.FLOAT))
    g.nodes += [helper.make_node("Identity", [output], ["output"]), helper.make_node("Identity", [state], ["stateN"])]
    rows, samples = (1, sizes.samples) if kind == "fixed" else ("batch", "sequence")
    info = helper.make_tensor_value_info
    inputs = [info("input", 1, [rows, samples]), info("state", 1, [2, rows, hidden])]
    if kind in ("two_rates", "rate_unused", "apart"):
        inputs.insert(1 if kind == "apart" else 2, info("sr", TensorProto.INT64, []))
    outputs = [info("output", 1, [rows, 1]), info("stateN", 1, [2, rows, hidden])]
    graph = helper.make_graph(g.nodes, "voice", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def numbers(path, frames, hidden, rate):
    """Outputs and states of frames `[F, B, N]` in order."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state = np.zeros((2, frames.shape[1], hidden), np.float32)
    takes_rate = any(i.name == "sr" for i in session.get_inputs())
    outputs, states = [], []
    for frame in frames:
        feeds = {"input": frame, "state": state} | ({"sr": np.array(rate)} if takes_rate else {})
        output, state = session.run(["output", "stateN"], feeds)
        outputs.append(output)
        states.append(state)
    return np.stack(outputs), np.stack(states)


def small(out):
    rng = np.random.default_rng(20261129)
    networks = [(sizes, weights(sizes, rng)) for sizes in (Sizes(16, 8, [6, 5, 5, 6]), Sizes(8, 4, [4, 5, 5, 6]))]
    for kind in KINDS:
        path = out / f"{kind}.onnx"
        onnx.save(model(kind, networks), path)
        tensors = {}
        rates = [16000, 8000] if kind in ("two_rates", "apart") else [16000]
        for rate, (sizes, _) in zip(rates, networks):
            frames = rng.normal(size=(FRAMES, 1 if kind == "fixed" else 2, sizes.samples)).astype(np.float32)
            output, state = numbers(path, frames, sizes.hidden, rate)
            name = "" if rate == 16000 else f" {rate}"
            tensors |= {f"input{name}": frames, f"output{name}": output, f"state{name}": state}
        assert np.ptp(tensors["output"]) > 0.05, (kind, tensors["output"])
        write_golden(path.with_suffix(".golden.safetensors"), tensors)
    bundle(out, Path(__file__).parent / "onnx_voice.zip")


def real(out):
    import wave

    data = Path(__file__).resolve().parents[3] / "shared/data/silero-vad"
    with wave.open(str(data / "test.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    samples = np.pad(samples, (64, -len(samples) % 512))
    frames = np.stack([samples[at : at + 576] for at in range(0, len(samples) - 64, 512)])[:, None]
    networks = [(Sizes(256, 128, [128, 64, 64, 128]), shared_weights(data))]
    other = Sizes(128, 64, [128, 64, 64, 128])
    networks.append((other, weights(other, np.random.default_rng(1))))
    for kind in KINDS:
        path = out / f"{kind}.onnx"
        onnx.save(model(kind, networks), path)
        output, _ = numbers(path, frames, 128, 16000)
        output.astype("<f4").tofile(path.with_suffix(".f32"))
        print(path, len(output), output.mean())


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    (real if sys.argv[2:] == ["real"] else small)(target)
