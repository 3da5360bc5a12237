"""PyTorch's greedy answers of `translator.safetensors`, computed step by step from the equations of its layers: writes
`held_out.tsv` (text, date, answer) beside this file.

`python models/dates/greedy.py` (PyTorch 2.15, safetensors 0.8), after training.
"""

import random
from pathlib import Path

import torch
from safetensors.torch import load_file

import dates

HERE = Path(__file__).parent
STEPS = 11


def lstm(weights: dict, name: str, suffixes: list[str], x: torch.Tensor, hidden: int, start=None):
    layer = torch.nn.LSTM(x.shape[-1], hidden, bidirectional=len(suffixes) > 1)
    layer.load_state_dict({key.removeprefix(name + "."): value for key, value in weights.items() if key.startswith(name + ".")})
    return layer(x, start)


@torch.no_grad()
def greedy(weights: dict, text: str) -> str:
    letters = weights["letters.weight"][torch.tensor(dates.encode(text))][:, None]
    read, (h, _) = lstm(weights, "encoder", ["", "_reverse"], letters, 22)
    # The forward direction's last state starts the decoder; its c starts as 0.
    h = torch.tanh(h[:1] @ weights["start.weight"].T + weights["start.bias"])
    state, token, answer = (h, torch.zeros_like(h)), 0, ""
    for _ in range(STEPS):
        output, state = lstm(weights, "decoder", [""], weights["written.weight"][token][None, None], 36, state)
        query = output[0, 0] @ weights["query.weight"].T
        shares = torch.softmax(read[:, 0] @ query, 0)
        both = torch.cat([output[0, 0], shares @ read[:, 0]])
        token = int((weights["next.weight"] @ both + weights["next.bias"]).argmax())
        if token == 0:
            break
        answer += dates.TARGET[token]
    return answer


def main() -> None:
    weights = load_file(HERE / "translator.safetensors")
    _, held_out = dates.split()
    lines, right = [], 0
    for day in held_out:
        text = dates.written(day, random.Random(day.toordinal()))
        answer = greedy(weights, text)
        right += answer == day.isoformat()
        lines.append(f"{text}\t{day.isoformat()}\t{answer}\n")
    (HERE / "held_out.tsv").write_text("".join(lines))
    print(f"{right} of {len(held_out)} held-out dates right")


if __name__ == "__main__":
    main()
