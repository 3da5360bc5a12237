"""Speech probabilities of Silero VAD over its test recording, computed by PyTorch in f64 step by step.

Writes `silero_vad.golden.f32`, one number per 512 samples. With the path of the published ONNX graph
(`silero_vad_16k_op15.onnx` of the package silero-vad 6.2.3) as argument, also compares the numbers with ONNX Runtime's.
The graph's own weights are of another training run, so that the safetensors file's take their place.
"""

import sys
import wave

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from golden import HERE

DATA = HERE.parents[2] / "shared/data/silero-vad"
CHUNK, CONTEXT, PAD, HIDDEN = 512, 64, 64, 128


def recording() -> np.ndarray:
    """Samples in ±1, filled up with zeros to whole chunks."""
    with wave.open(str(DATA / "test.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    return np.pad(samples, (0, -len(samples) % CHUNK))


def frames(samples: np.ndarray) -> np.ndarray:
    """Each chunk with the 64 samples before it."""
    padded = np.pad(samples, (CONTEXT, 0))
    return np.stack([padded[start : start + CONTEXT + CHUNK] for start in range(0, len(samples), CHUNK)])


@torch.no_grad()
def probabilities(samples: np.ndarray) -> np.ndarray:
    w = {name: tensor.double() for name, tensor in load_file(DATA / "silero_vad_16k.safetensors").items()}
    cell = torch.nn.LSTMCell(HIDDEN, HIDDEN).double()
    cell.load_state_dict({name.split(".")[1]: tensor for name, tensor in w.items() if name.startswith("lstm_cell")})
    state = None
    result = []
    for frame in torch.from_numpy(frames(samples)).double():
        x = F.pad(frame[None, None], (0, PAD), "reflect")
        x = F.conv1d(x, w["stft_conv.weight"], stride=128)
        x = torch.sqrt(x[:, : HIDDEN + 1] ** 2 + x[:, HIDDEN + 1 :] ** 2)
        for name, stride in [("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)]:
            x = torch.relu(F.conv1d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=stride, padding=1))
        assert x.shape == (1, HIDDEN, 1)
        state = cell(x[:, :, 0], state)
        x = F.conv1d(torch.relu(state[0])[:, :, None], w["final_conv.weight"], w["final_conv.bias"])
        result.append(torch.sigmoid(x).item())
    return np.array(result)


def ours_of(name: str) -> str:
    """The graph's name of a weight as the safetensors file has it."""
    _, part, *rest = name.split(".")
    if part == "stft":
        return "stft_conv.weight"
    if part == "encoder":
        return f"conv{int(rest[0]) + 1}.{rest[-1]}"
    return f"lstm_cell.{rest[-1]}" if rest[0] == "rnn" else f"final_conv.{rest[-1]}"


def onnx_probabilities(path: str, samples: np.ndarray) -> np.ndarray:
    import onnx
    import onnxruntime

    weights = load_file(DATA / "silero_vad_16k.safetensors")
    model = onnx.load(path)
    for stored in model.graph.initializer:
        if stored.name.startswith("model."):
            ours = weights[ours_of(stored.name)].numpy()
            assert list(ours.shape) == list(stored.dims), stored.name
            stored.CopyFrom(onnx.numpy_helper.from_array(ours, stored.name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    state = np.zeros((2, 1, HIDDEN), np.float32)
    result = []
    for frame in frames(samples):
        out, state = session.run(None, {"input": frame[None], "state": state, "sr": np.array(16000)})
        result.append(out.item())
    return np.array(result)


def main() -> None:
    samples = recording()
    result = probabilities(samples)
    result.astype("<f4").tofile(HERE / "silero_vad.golden.f32")
    print(f"{len(result)} chunks; {(result > 0.5).mean():.0%} of them speech")
    if len(sys.argv) > 1:
        print(f"ONNX Runtime differs by at most {np.abs(result - onnx_probabilities(sys.argv[1], samples)).max():.1e}")


if __name__ == "__main__":
    main()
