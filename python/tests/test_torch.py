"""PyTorch's modules as networks, and drop-in modules, against PyTorch."""

import numpy as np
import pytest
from support import close, device, framework, numbers

import gatefold_rnn as gf

torch = framework("torch")
nn = torch.nn

if torch is not None:
    import gatefold_rnn.torch as gt
    from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

torch.manual_seed(0)
torch.set_grad_enabled(False)

CELLS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
OPTIONS = [
    {},
    {"num_layers": 3},
    {"bidirectional": True, "num_layers": 2},
    {"batch_first": True, "bias": False},
    {"batch_first": True, "bidirectional": True},
    {"dropout": 0.5, "num_layers": 2},
]
CASES = [(cell, options) for cell in CELLS for options in OPTIONS]
CASES += [("LSTM", {"proj_size": 3}), ("LSTM", {"proj_size": 3, "num_layers": 2, "bidirectional": True})]
CASES += [("RNN", {"nonlinearity": "relu"}), ("RNN", {"nonlinearity": "relu", "bidirectional": True})]


def made(cell, options):
    return CELLS[cell](4, 7, **options).eval()


def flat(state):
    return [h.numpy() for h in (state if isinstance(state, tuple) else (state,))]


def same(got, expected, steps):
    y, state = got
    y = y.data if hasattr(y, "batch_sizes") else y
    right, end = expected
    right = right.data if hasattr(right, "batch_sizes") else right
    pairs = [(y.numpy(), right.numpy()), *zip(flat(state), flat(end))]
    return all(close(one, two, steps) for one, two in pairs)


@pytest.mark.parametrize("cell, options", CASES)
def test_drop_in_modules_agree_with_pytorch(cell, options):
    module = made(cell, options)
    ours = getattr(gt, cell)(module, device=device())
    shape = (5, 9, 4) if module.batch_first else (9, 5, 4)
    x = torch.randn(shape)
    assert same(ours(x), module(x), 9)
    _, state = module(torch.randn(shape))
    assert same(ours(x, state), module(x, state), 9)
    assert not same(ours(x), module(x, state), 9), "the control: without the state"
    assert same(ours(x[:, 0] if not module.batch_first else x[0]), module(x[:, 0] if not module.batch_first else x[0]), 9)
    assert same(ours(x.transpose(0, 1).contiguous().transpose(0, 1)), module(x), 9)


@pytest.mark.parametrize("cell, options", CASES)
def test_packed_sequences_agree_with_pytorch(cell, options):
    module = made(cell, options)
    ours = getattr(gt, cell)(module, device=device())
    lengths = [3, 9, 1, 9, 6]
    x = torch.randn(5, 9, 4)
    padded = x if module.batch_first else x.transpose(0, 1)
    packed = pack_padded_sequence(padded, lengths, batch_first=module.batch_first, enforce_sorted=False)
    _, state = module(padded)
    for hx in (None, state):
        got, expected = ours(packed, hx), module(packed, hx)
        assert same(got, expected, 9)
        assert torch.equal(got[0].batch_sizes, expected[0].batch_sizes)
        unpacked, right = (pad_packed_sequence(one[0], batch_first=True)[0] for one in (got, expected))
        assert close(unpacked.numpy(), right.numpy(), 9)
    sorted_already = pack_sequence([torch.randn(n, 4) for n in (9, 6, 2)])
    assert sorted_already.sorted_indices is None and same(ours(sorted_already), module(sorted_already), 9)


def test_errors_of_drop_in_modules():
    ours = gt.LSTM(nn.LSTM(4, 7), device="cpu")
    with pytest.raises(TypeError, match="input: expected a float32 tensor on the CPU, got torch.float64"):
        ours(torch.randn(2, 1, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="hx: expected h and c, got 1 tensors"):
        ours(torch.randn(2, 1, 4), torch.zeros(1, 1, 7))
    with pytest.raises(ValueError, match="4"):
        ours(torch.randn(2, 1, 5))
    with torch.enable_grad(), pytest.raises(RuntimeError, match="for inference"):
        ours(torch.randn(2, 1, 4, requires_grad=True))
    with pytest.raises(TypeError, match="expected an nn.LSTM, got GRU"):
        gt.LSTM(nn.GRU(4, 7))
    assert "inference in gatefold" in repr(ours)


def sequential():
    return nn.Sequential(
        nn.Embedding(20, 6, padding_idx=0),
        nn.Dropout(0.3),
        nn.GRU(6, 8, batch_first=True, bidirectional=True),
        gt.LastStep(),
        nn.LayerNorm(16),
        nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3, bias=False)),
        nn.Softmax(dim=-1),
    ).eval()


def test_a_sequential_is_read_by_its_weights():
    module = sequential()
    ids = torch.randint(0, 20, (4, 11))
    net = gf.from_torch(module, device=device())
    assert close(net(ids), module(ids).numpy(), 11)
    module[5][0].bias.data[0] += 1e-3
    assert not close(net(ids), module(ids).numpy(), 11), "the control"
    assert [layer["type"] for layer in net.layers][:3] == ["embedding", "gru", "select"]


@pytest.mark.parametrize(
    "function",
    [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.Mish(), nn.SELU(), nn.Softsign(), nn.Hardswish(), nn.GELU(),
     nn.GELU("tanh"), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7), nn.Softmax(-1), nn.LogSoftmax(-1)],
    ids=repr,
)
def test_activations(function):
    module = nn.Sequential(nn.LSTM(4, 7), gt.LastStep(batch_first=False), nn.Linear(7, 9), function).eval()
    x = torch.randn(5, 3, 4) * 3
    assert close(gf.from_torch(module, device=device())(x), module(x).numpy(), 5)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 7, batch_first=True)
        self.head = nn.Linear(7, 2)

    def forward(self, x):
        y, _ = self.lstm(x)
        return torch.sigmoid(self.head(y)) * 2


def test_other_modules_are_exported():
    module = Own().eval()
    x = torch.randn(1, 6, 4)
    with pytest.raises(ValueError, match="is not read by its weights; give `example`"):
        gf.from_torch(module)
    with pytest.raises(TypeError, match="expected a torch.nn.Module, got int"):
        gf.from_torch(3)
    net = gf.from_torch(module, x, device=device())
    assert close(net(x), module(x).numpy(), 6)
    longer = torch.randn(3, 11, 4)
    assert close(net(longer), module(longer).numpy(), 11), "T and B are not those of the example"
    assert not close(net(longer), module(longer.flip(1)).numpy(), 11), "the control"


def test_a_converted_module_can_be_trained():
    """The trained network differs from the module, and the module stays as it was."""
    module = nn.Sequential(nn.LSTM(2, 6, batch_first=True), gt.LastStep(), nn.Linear(6, 1)).eval()
    x = numbers(16, 5, 2)
    y = x.sum((1, 2))[:, None]
    learner = gf.Trainer(gf.from_torch(module), "mse", learning_rate=0.02, seed=1)
    before = module(torch.from_numpy(x)).numpy()
    assert close(learner.predict(x), before, 5)
    history = learner.fit(x, y, epochs=40, batch_size=8, progress=False)
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    assert np.array_equal(module(torch.from_numpy(x)).numpy(), before)
