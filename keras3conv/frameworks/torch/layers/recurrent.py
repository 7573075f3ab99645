"""Define the recurrent layers of Keras that torch.nn lacks; they need only torch and `functions`."""

import torch
from torch import nn

from keras3conv.frameworks.torch.functions import activated, pad_same


class Recurrent(nn.Module):
    """Stacked recurrent cells of any sizes, kinds and activations, run step by step, as `keras.layers.RNN`.

    The gates are in the order of Keras: i, f, c, o in an LSTM, and z, r, h in a GRU.

    Args:
        input_size: The number of features of a step.
        cells: Each as (kind, units, activation, recurrent activation, bias). The kinds are "LSTM", "SimpleRNN", "GRU"
            (the reset gate after the product) and "ResetFirstGRU" (before it). An activation is a name in
            `torch.nn.functional`, or "linear".
        return_sequences: Whether to return the outputs of all steps instead of the last one.
        return_state: Whether to return the states after the last step, too.
        go_backwards: Whether to run the steps in reverse order.
        zero_masked: Whether a masked step returns zeros instead of the output of the step before it.
    """

    kind = "keras3conv.frameworks.torch.layers.Recurrent"  # a name for keras3conv; nothing is imported

    def __init__(
        self,
        input_size: int,
        cells: tuple[tuple[str, int, str, str, bool], ...],
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        zero_masked: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.cells = cells
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.zero_masked = zero_masked
        for place, (kind, units, _, _, bias) in enumerate(cells):
            rows = units * {"SimpleRNN": 1, "LSTM": 4}.get(kind, 3)
            weight_ih, weight_hh = torch.empty(rows, input_size), torch.empty(rows, units)
            self.register_parameter(f"weight_ih_l{place}", nn.Parameter(nn.init.xavier_uniform_(weight_ih)))
            self.register_parameter(f"weight_hh_l{place}", nn.Parameter(nn.init.orthogonal_(weight_hh)))
            zeros = torch.zeros(2, rows) if kind == "GRU" else torch.zeros(rows)
            self.register_parameter(f"bias_l{place}", nn.Parameter(zeros) if bias else None)
            input_size = units

    def forward(
        self,
        inputs: torch.Tensor,
        mask: torch.Tensor | None = None,
        initial: tuple[torch.Tensor, ...] = (),
    ) -> torch.Tensor | tuple[torch.Tensor | list[torch.Tensor], ...]:
        """Run the stacked recurrent cells over all steps of the inputs.

        Args:
            inputs: Of shape (batch, steps, input_size).
            mask: Of shape (batch, steps): where it is false, the states stay, and so does the output unless
                `zero_masked`. Before the first step, the output is zeros.
            initial: The states before the first step, of shape (batch, units): all states of the first cell, then those
                of the second. Without them, the states are zeros.

        Returns:
            A tensor of shape (batch, units), or (batch, steps, units) in the order in which the steps ran; with
            `return_state`, also the states of every cell, of shape (batch, units).
        """
        numbers = [2 if kind == "LSTM" else 1 for kind, *_ in self.cells]
        given = iter(initial)
        states = [
            [next(given) if initial else inputs.new_zeros(inputs.shape[0], units) for _ in range(number)]
            for number, (_, units, *_) in zip(numbers, self.cells, strict=True)
        ]
        outputs = [torch.zeros_like(states[-1][0])]
        steps = (inputs.flip(1) if self.go_backwards else inputs).unbind(1)
        kept = [None] * len(steps) if mask is None else (mask.flip(1) if self.go_backwards else mask).unbind(1)
        for step, keep in zip(steps, kept, strict=True):
            output = step
            for place, state in enumerate(states):
                found = self.step(place, output, state)
                output = found[0]
                if keep is not None:
                    found = [torch.where(keep[:, None], new, old) for new, old in zip(found, state, strict=True)]
                states[place] = found
            output = states[-1][0]
            if keep is not None:
                output = torch.where(keep[:, None], output, 0 if self.zero_masked else outputs[-1])
            outputs.append(output)
        result = torch.stack(outputs[1:], 1) if self.return_sequences else outputs[-1]
        if not self.return_state:
            return result
        if len(states) == 1:
            return (result, *states[0])
        return (result, *(state if len(state) > 1 else state[0] for state in states))

    def step(self, place: int, inputs: torch.Tensor, states: list[torch.Tensor]) -> list[torch.Tensor]:
        """Run one step of one of the stacked cells; return its new states, the first of which is its output.

        Args:
            place: The index of the cell.
            inputs: The input of the step.
            states: The states of the cell.
        """
        kind, _, activation, recurrent_activation, _ = self.cells[place]
        weight_ih, weight_hh = getattr(self, f"weight_ih_l{place}"), getattr(self, f"weight_hh_l{place}")
        bias, hidden = getattr(self, f"bias_l{place}"), states[0]
        bias_ih, bias_hh = bias if kind == "GRU" and bias is not None else (bias, None)
        given = nn.functional.linear(inputs, weight_ih, bias_ih)
        if kind == "SimpleRNN":
            return [activated(activation, given + hidden @ weight_hh.T)]
        if kind == "LSTM":
            i, f, c, o = (given + hidden @ weight_hh.T).chunk(4, -1)
            carried = activated(recurrent_activation, f) * states[1]
            cell = carried + activated(recurrent_activation, i) * activated(activation, c)
            return [activated(recurrent_activation, o) * activated(activation, cell), cell]
        units = hidden.shape[-1]
        gates, candidate = given[..., : 2 * units], given[..., 2 * units :]
        if kind == "GRU":
            products = nn.functional.linear(hidden, weight_hh, bias_hh)
            update, reset = activated(recurrent_activation, gates + products[..., : 2 * units]).chunk(2, -1)
            new = activated(activation, candidate + reset * products[..., 2 * units :])
        else:
            products = hidden @ weight_hh[: 2 * units].T
            update, reset = activated(recurrent_activation, gates + products).chunk(2, -1)
            new = activated(activation, candidate + (reset * hidden) @ weight_hh[2 * units :].T)
        return [update * hidden + (1 - update) * new]


class ConvLSTM(nn.Module):
    """An LSTM with convolutions over one, two or three axes instead of matrix products, as `keras.layers.ConvLSTM2D`.

    The gates are in the order of Keras: i, f, c, o.

    Args:
        in_channels: The number of channels of a step.
        out_channels: The number of channels of the states.
        kernel_size: The size of the kernels along each spatial axis; its length is the number of these axes.
        stride: The stride of the convolution of the input.
        padding: "valid", or "same": zeros around the input, the odd one at the end.
        dilation: The dilation of the convolution of the input.
        channels_last: Whether inputs and outputs have their channels last.
        bias: Whether the gates have a bias.
        activation: A name in `torch.nn.functional`, or "linear".
        recurrent_activation: The activation of the gates, likewise.
        return_sequences: Whether to return the outputs of all steps instead of the last one.
        return_state: Whether to return the two states after the last step, too.
        go_backwards: Whether to run the steps in reverse order.
    """

    kind = "keras3conv.frameworks.torch.layers.ConvLSTM"  # a name for keras3conv; nothing is imported
    bias: torch.Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        *,
        stride: tuple[int, ...] | None = None,
        padding: str = "valid",
        dilation: tuple[int, ...] | None = None,
        channels_last: bool = False,
        bias: bool = True,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = (1,) * len(kernel_size) if stride is None else stride
        self.padding = padding
        self.dilation = (1,) * len(kernel_size) if dilation is None else dilation
        self.channels_last = channels_last
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        weights = [torch.empty(4 * out_channels, channels, *kernel_size) for channels in (in_channels, out_channels)]
        self.weight_ih, self.weight_hh = (nn.Parameter(nn.init.xavier_uniform_(weight)) for weight in weights)
        self.register_parameter("bias", nn.Parameter(torch.zeros(4 * out_channels)) if bias else None)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Run the convolutional LSTM over all steps of the inputs.

        Args:
            inputs: Of shape (batch, steps, in_channels, *space); with `channels_last`, the channels at the end.

        Returns:
            A tensor of shape (batch, out_channels, *space) or (batch, steps, out_channels, *space), in the order in
            which the steps ran; with `return_state`, also the two states after the last step.
        """
        inputs = inputs.movedim(-1, 2) if self.channels_last else inputs
        given = [
            self.convolve(step, self.weight_ih, self.bias, self.stride, self.dilation, self.padding)
            for step in (inputs.flip(1) if self.go_backwards else inputs).unbind(1)
        ]
        hidden = cell = torch.zeros_like(given[0][:, : self.out_channels])
        ones = (1,) * len(self.kernel_size)
        outputs = []
        for gates in given:
            i, f, c, o = (gates + self.convolve(hidden, self.weight_hh, None, ones, ones, "same")).chunk(4, 1)
            carried = activated(self.recurrent_activation, f) * cell
            cell = carried + activated(self.recurrent_activation, i) * activated(self.activation, c)
            hidden = activated(self.recurrent_activation, o) * activated(self.activation, cell)
            outputs.append(hidden)
        results = [torch.stack(outputs, 1) if self.return_sequences else hidden, hidden, cell]
        if self.channels_last:
            results = [result.movedim(result.ndim - len(ones) - 1, -1) for result in results]
        return tuple(results) if self.return_state else results[0]

    @staticmethod
    def convolve(
        inputs: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        padding: str,
    ) -> torch.Tensor:
        """Convolve a tensor (batch, channels, *space).

        Padding="same" gives ceil(size / stride) elements along each axis.
        """
        if padding == "same":
            inputs = pad_same(inputs, weight.shape[2:], stride, dilation)
        convolve = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)[len(stride) - 1]
        return convolve(inputs, weight, bias, stride, 0, dilation)
