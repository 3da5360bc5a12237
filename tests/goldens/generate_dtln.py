"""DTLN's two cores over 500 frames, frame by frame with their states, by ONNX Runtime: `dtln.golden.st`.

Only some frames are stored. The input is a formula, so that it needs no storing: element i of frame t of core n is
|sin(0.37 i + 0.11 t + n)| for core 1 (a magnitude) and 0.5 sin(0.37 i + 0.11 t + n) for core 2 (samples), in f64,
rounded to f32.
"""

import numpy as np
import onnxruntime
from safetensors.numpy import save_file

from golden import HERE, as_stored

DATA = HERE.parents[2] / "shared/data/dtln"
FRAMES = 500
STORED = [0, 1, 2, 10, 100, 499]


def frame(core: int, t: int, width: int) -> np.ndarray:
    wave = np.sin(0.37 * np.arange(width) + 0.11 * t + core)
    return (np.abs(wave) if core == 1 else 0.5 * wave).astype(np.float32).reshape(1, 1, width)


def main() -> None:
    golden = {"frames": np.array(STORED)}
    for core in (1, 2):
        session = onnxruntime.InferenceSession(str(DATA / f"model_{core}.onnx"))
        x, state = session.get_inputs()
        packed = np.zeros(state.shape, np.float32)
        outputs = []
        for t in range(FRAMES):
            y, packed = session.run(None, {x.name: frame(core, t, x.shape[2]), state.name: packed})
            outputs.append(y.reshape(-1))
        golden[f"core_{core}"] = np.stack([outputs[t] for t in STORED])
    save_file(as_stored(golden), HERE / "dtln.golden.st")


if __name__ == "__main__":
    main()
