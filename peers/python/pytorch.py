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


def prepare_step(weights, tokens, labels):
    rows, hidden = weights["weight_hh_l0"].shape
    kind = {4: torch.nn.LSTM, 3: torch.nn.GRU}[rows // hidden]
    embedding = torch.nn.Embedding(*weights["embedding.weight"].shape)
    layer, dense = kind(weights["weight_ih_l0"].shape[1], hidden), torch.nn.Linear(hidden, len(weights["dense.bias"]))
    network = torch.nn.ModuleDict({"embedding": embedding, "layer": layer, "dense": dense})
    of_layer = lambda name: f"layer.{name}" if name.endswith("_l0") else name  # noqa: E731
    network.load_state_dict({of_layer(name): torch.from_numpy(array) for name, array in weights.items()})
    network = network.to(DEVICE)
    # The second bias of an LSTM stays.
    layer.bias_hh_l0.requires_grad_(kind is torch.nn.GRU)
    # The fastest of PyTorch's ways, each checked against the same losses.
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def step():
        x, y = torch.from_numpy(tokens).to(DEVICE), torch.from_numpy(labels).to(DEVICE)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(dense(layer(embedding(x))[0][-1]), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


measure(torch.__version__, NAME, prepare, prepare_step)
