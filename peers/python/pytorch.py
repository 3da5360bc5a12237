"""PyTorch's nn.LSTM, nn.GRU and nn.RNN. PEER_DEVICE: cpu or cuda (cuDNN, TF32 off); PEER_PRECISION: f32 or f16."""

import os
import sys

import torch
from exchange import PRECISION, THREADS, cpu, measure

DEVICE = os.environ.get("PEER_DEVICE", "cpu")
DTYPE = {"f32": torch.float32, "f16": torch.float16}[PRECISION]
if DEVICE == "cuda":
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no NVIDIA GPU")
    if not torch.backends.cudnn.is_available():
        sys.exit("this PyTorch has no cuDNN")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    NAME = f"{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}, {DTYPE}"
else:
    if THREADS:
        torch.set_num_threads(THREADS)
        torch.set_num_interop_threads(1)
    NAME = cpu(torch.get_num_threads())


def prepare(_folder, weights, x):
    rows, hidden = weights["weight_hh_l0"].shape
    kind = {4: torch.nn.LSTM, 3: torch.nn.GRU, 1: torch.nn.RNN}[rows // hidden]
    both = "weight_hh_l0_reverse" in weights
    network = kind(x.shape[2], hidden, len(weights) // (8 if both else 4), bidirectional=both)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    network = network.to(DEVICE, DTYPE).eval()
    x = torch.from_numpy(x)

    def run():
        # As for every other engine: the input starts and the output ends in the host's memory.
        with torch.inference_mode():
            return network(x.to(DEVICE, DTYPE))[0].float().cpu().numpy()

    return run


measure(torch.__version__, NAME, prepare)
