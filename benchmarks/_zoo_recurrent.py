"""Define handwritten recurrent networks in the style of research code."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Classifier(nn.Module):
    """A classifier of tokens by the last state of a recurrent layer."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.rnn = kind(6, 8, batch_first=True, **options)
        self.head = nn.Linear(8 * (2 if options.get("bidirectional") else 1), 3)

    def forward(self, tokens: torch.Tensor) -> Any:
        """Return the scores of three classes."""
        made, _ = self.rnn(self.embedding(tokens))
        return self.head(functional.dropout(made[:, -1], 0.2, self.training))


class States(nn.Module):
    """A recurrent layer that takes and returns its state."""

    def __init__(self, kind: Any, layers: int = 1) -> None:
        super().__init__()
        self.rnn = kind(5, 7, layers, batch_first=True)

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> Any:
        """Return the outputs and the states."""
        turned = tuple(state.transpose(0, 1) for state in states)
        made, after = self.rnn(x, turned if len(turned) > 1 else turned[0])
        return (made, *(after if isinstance(after, tuple) else (after,)))


class Translator(nn.Module):
    """An encoder and a decoder of GRUs with attention between them."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(20, 6), nn.Embedding(18, 6)
        self.encoder = nn.GRU(6, 8, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(16, 8)
        self.decoder = nn.GRU(6, 8, batch_first=True)
        self.query = nn.Linear(8, 16, bias=False)
        self.head = nn.Linear(24, 18)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> Any:
        """Return the scores of the next token at each place of the target."""
        memory, state = self.encoder(self.source(source))
        state = torch.tanh(self.bridge(torch.cat([state[0], state[1]], 1)))[None]
        hidden, _ = self.decoder(self.target(target), state)
        weights = torch.softmax(self.query(hidden) @ memory.transpose(1, 2), -1)
        return self.head(torch.cat([hidden, weights @ memory], -1))


class Cells(nn.Module):
    """A loop over the steps with an LSTM cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> Any:
        """Return two numbers for each time step."""
        hidden, cell = x.new_zeros(x.shape[0], 6), x.new_zeros(x.shape[0], 6)
        made = []
        for step in x.unbind(1):
            hidden, cell = self.cell(step, (hidden, cell))
            made.append(self.head(hidden))
        return torch.stack(made, 1)
