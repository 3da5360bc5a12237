"""Attention decoders by PyTorch, step by step as their own sources write them: outputs, and gradients by autograd.

Writes `decoders.st`: of each case NAME the weights under the names that its source gives them (`NAME/weights/..`), what is
read (`NAME/source`, `NAME/lengths`, `NAME/target`), `NAME/output`, and for the loss `sum(output * d_output)` the gradients
(`NAME/d_output`, `NAME/gradients/..`); the metadata has the layers of each. Weights are random f32 numbers, results
computed in f64.

`python tests/goldens/generate_decoders.py` (PyTorch 2.15, safetensors 0.8)
"""

import json

import numpy as np
import torch
from golden import HERE, as_stored, dense, embedding, generator, uniform
from safetensors.numpy import save_file

SOURCE, TARGET, HIDDEN = 9, 7, 6
STEPS, LENGTHS = 5, [6, 3, 1]


def recurrent(kind: str, name: str, inputs: int, hidden: int, **options) -> dict:
    return {"type": kind, "name": name, "input_size": inputs, "hidden_size": hidden, **options}


def attention(name: str, keys: str, **options) -> dict:
    return {"type": "attention", "name": name, "embed_dim": HIDDEN, "keys": keys, **options}


def tokens(name: str) -> dict:
    return {"type": "input", "name": name, "kind": "tokens"}


def join(name: str, *inputs: str) -> dict:
    return {"type": "join", "name": name, "inputs": list(inputs), "join": "concat"}


def softmax_of(scores: torch.Tensor, lengths: list[int] | None) -> torch.Tensor:
    """`[B, S]`; steps behind a length have no share."""
    if lengths is not None:
        behind = torch.arange(scores.shape[1])[None] >= torch.tensor(lengths)[:, None]
        scores = scores.masked_fill(behind, -torch.inf)
    return torch.softmax(scores, 1)


class Tutorial(torch.nn.Module):
    """`AttnDecoderRNN` of PyTorch's tutorial since 2023: Bahdanau's attention before a GRU, padding included."""

    masked = False

    def __init__(self):
        super().__init__()
        linear = torch.nn.Linear
        self.encoder = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(SOURCE, HIDDEN), "gru": torch.nn.GRU(HIDDEN, HIDDEN)})
        self.embedding = torch.nn.Embedding(TARGET, HIDDEN)
        self.attention = torch.nn.ModuleDict({"Wa": linear(HIDDEN, HIDDEN), "Ua": linear(HIDDEN, HIDDEN), "Va": linear(HIDDEN, 1)})
        self.gru = torch.nn.GRU(2 * HIDDEN, HIDDEN)
        self.out = linear(HIDDEN, TARGET)

    def forward(self, source, target, _):
        keys, hidden = self.encoder["gru"](self.encoder["embedding"](source))
        outputs, keys = [], keys.transpose(0, 1)
        for step in target:
            query = hidden.permute(1, 0, 2)
            a = self.attention
            scores = a["Va"](torch.tanh(a["Wa"](query) + a["Ua"](keys)))[:, :, 0]
            context = torch.bmm(softmax_of(scores, None)[:, None], keys)
            read = torch.cat((self.embedding(step)[:, None], context), dim=2)
            output, hidden = self.gru(read.transpose(0, 1), hidden)
            outputs.append(torch.log_softmax(self.out(output[0]), -1))
        return torch.stack(outputs)

    def layers(self):
        return [
            tokens("source"), embedding("encoder.embedding", SOURCE, HIDDEN), recurrent("gru", "encoder.gru", HIDDEN, HIDDEN),
            {"type": "final_state", "name": "hidden", "layer": "encoder.gru", "part": "h"},
            {"type": "from", "layer": "encoder.gru"}, {"type": "unmask", "name": "values"},
            dense("attention.Ua", HIDDEN, HIDDEN),
            tokens("target"), embedding("embedding", TARGET, HIDDEN),
            {"type": "feedback", "name": "before", "layer": "gru", "num_features": HIDDEN, "initial": "hidden"},
            dense("attention.Wa", HIDDEN, HIDDEN),
            attention("attention.Va", "attention.Ua", values="values", score="additive"),
            join("read", "embedding", "attention.Va"),
            recurrent("gru", "gru", 2 * HIDDEN, HIDDEN, initial_h="hidden"),
            dense("out", HIDDEN, TARGET), {"type": "log_softmax", "name": "logs"},
        ]


class OpenNmt(torch.nn.Module):
    """OpenNMT-py 1.x: `InputFeedRNNDecoder` with `GlobalAttention`, a bidirectional encoder and the names of its checkpoints."""

    masked = True

    def __init__(self, kind: str):
        super().__init__()
        self.kind, linear, half = kind, torch.nn.Linear, HIDDEN // 2
        def table(count):
            return torch.nn.ModuleDict({"make_embedding": torch.nn.ModuleDict({"emb_luts": torch.nn.ModuleList([torch.nn.Embedding(count, 5)])})})
        rnn = torch.nn.LSTM(5, half, bidirectional=True)
        self.encoder = torch.nn.ModuleDict({"embeddings": table(SOURCE), "rnn": rnn})
        if kind == "mlp":
            parts = {"linear_context": linear(HIDDEN, HIDDEN, bias=False), "linear_query": linear(HIDDEN, HIDDEN), "v": linear(HIDDEN, 1, bias=False)}
        else:
            parts = {"linear_in": linear(HIDDEN, HIDDEN, bias=False)} if kind == "general" else {}
        parts["linear_out"] = linear(2 * HIDDEN, HIDDEN, bias=kind == "mlp")
        cells = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.LSTMCell(5 + HIDDEN, HIDDEN)])})
        self.decoder = torch.nn.ModuleDict({"embeddings": table(TARGET), "rnn": cells, "attn": torch.nn.ModuleDict(parts)})
        self.generator = torch.nn.ModuleList([linear(HIDDEN, TARGET)])

    def forward(self, source, target, lengths):
        embedded = self.encoder["embeddings"]["make_embedding"]["emb_luts"][0](source)
        packed = torch.nn.utils.rnn.pack_padded_sequence(embedded, torch.tensor(lengths), enforce_sorted=False)
        memory, (h, c) = self.encoder["rnn"](packed)
        memory = torch.nn.utils.rnn.pad_packed_sequence(memory)[0].transpose(0, 1)
        h, c = torch.cat((h[0], h[1]), 1), torch.cat((c[0], c[1]), 1)
        fed, outputs, attn = torch.zeros_like(h), [], self.decoder["attn"]
        for step in target:
            emb = self.decoder["embeddings"]["make_embedding"]["emb_luts"][0](step)
            h, c = self.decoder["rnn"]["layers"][0](torch.cat([emb, fed], 1), (h, c))
            if self.kind == "mlp":
                sums = attn["linear_query"](h)[:, None] + attn["linear_context"](memory)
                scores = attn["v"](torch.tanh(sums))[:, :, 0]
            else:
                query = attn["linear_in"](h) if self.kind == "general" else h
                scores = torch.bmm(memory, query[:, :, None])[:, :, 0]
            context = torch.bmm(softmax_of(scores, lengths)[:, None], memory)[:, 0]
            fed = attn["linear_out"](torch.cat([context, h], 1))
            fed = fed if self.kind == "mlp" else torch.tanh(fed)
            outputs.append(self.generator[0](fed))
        return torch.stack(outputs)

    def layers(self):
        tables = "{}.embeddings.make_embedding.emb_luts.0"
        encoder = [
            tokens("source"), embedding(tables.format("encoder"), SOURCE, 5),
            recurrent("lstm", "encoder.rnn", 5, HIDDEN // 2, bidirectional=True),
        ]
        for part in "hc":
            for direction in (0, 1):
                state = {"type": "final_state", "name": f"{part}{direction}", "layer": "encoder.rnn", "part": part}
                encoder.append({**state, "direction": direction})
            encoder.append(join(f"start_{part}", f"{part}0", f"{part}1"))
        keys, score = "encoder.rnn", []
        if self.kind == "mlp":
            keys = "decoder.attn.linear_context"
            encoder += [{"type": "from", "layer": "encoder.rnn"}, dense(keys, HIDDEN, HIDDEN, bias=False)]
            score = [dense("decoder.attn.linear_query", HIDDEN, HIDDEN)]
        elif self.kind == "general":
            score = [dense("decoder.attn.linear_in", HIDDEN, HIDDEN, bias=False)]
        how = {"values": "encoder.rnn", "score": "additive"} if self.kind == "mlp" else {}
        out = {"bias": True} if self.kind == "mlp" else {"bias": False, "activation": "tanh"}
        cell = "decoder.rnn.layers.0"
        return [
            *encoder, tokens("target"), embedding(tables.format("decoder"), TARGET, 5),
            {"type": "feedback", "name": "input_feed", "layer": "decoder.attn.linear_out", "num_features": HIDDEN},
            join("read", tables.format("decoder"), "input_feed"),
            recurrent("lstm", cell, 5 + HIDDEN, HIDDEN, initial_h="start_h", initial_c="start_c"),
            *score, attention("decoder.attn.v", keys, **how), join("both", "decoder.attn.v", cell),
            dense("decoder.attn.linear_out", 2 * HIDDEN, HIDDEN, **out), dense("generator.0", HIDDEN, TARGET),
        ]


def main() -> None:
    tensors, metadata = {}, {}
    cases = {"tutorial": Tutorial, **{kind: lambda kind=kind: OpenNmt(kind) for kind in ("dot", "general", "mlp")}}
    for name, make in cases.items():
        rng = generator(name)
        module = make().double()
        weights = {key: uniform(rng, tuple(value.shape), 0.8) for key, value in module.state_dict().items()}
        module.load_state_dict({key: torch.tensor(value).double() for key, value in weights.items()})
        batch = len(LENGTHS)
        source = torch.tensor(rng.integers(0, SOURCE, (max(LENGTHS), batch)))
        target = torch.tensor(rng.integers(0, TARGET, (STEPS, batch)))
        output = module(source, target, LENGTHS)
        d_output = uniform(rng, tuple(output.shape), 1.0)
        (output * torch.tensor(d_output)).sum().backward()
        case = {f"weights/{key}": value for key, value in weights.items()}
        case |= {f"gradients/{key}": value.grad.numpy() for key, value in module.named_parameters()}
        case |= {"source": source.numpy(), "target": target.numpy(), "output": output.detach().numpy(), "d_output": d_output}
        if module.masked:
            case["lengths"] = np.array(LENGTHS)
        tensors |= {f"{name}/{key}": value for key, value in as_stored(case).items()}
        metadata[name] = json.dumps(module.layers(), separators=(",", ":"))
    save_file(tensors, HERE / "decoders.st", metadata)


if __name__ == "__main__":
    main()
