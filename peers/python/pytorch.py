"""PyTorch's nn.LSTM. PEER_DEVICE: cpu or cuda (cuDNN, TF32 off); PEER_PRECISION: f32 or f16."""

import os
import sys

import torch
from exchange import measure

DEVICE = os.environ.get("PEER_DEVICE", "cpu")
DTYPE = {"f32": torch.float32, "f16": torch.float16}[os.environ.get("PEER_PRECISION", "f32")]
if DEVICE == "cuda":
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no NVIDIA GPU")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    NAME = f"{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}, {DTYPE}"
else:
    NAME = f"CPU, {torch.get_num_threads()} threads"


def prepare(_folder, weights, x):
    hidden = weights["weight_hh_l0"].shape[1]
    lstm = torch.nn.LSTM(x.shape[2], hidden)
    lstm.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    lstm = lstm.to(DEVICE, DTYPE).eval()
    x = torch.from_numpy(x)

    def run():
        # As for every other engine: the input starts and the output ends in the host's memory.
        with torch.inference_mode():
            return lstm(x.to(DEVICE, DTYPE))[0].float().cpu().numpy()

    return run


measure(torch.__version__, NAME, prepare)
