"""Test cases of torch operators for the conversion to Keras, each with the shape of its input."""

from typing import Any

import torch
from torch.nn import functional

from tests.support.torch_images import IMAGE, IMAGES
from tests.support.torch_places import PLACES
from tests.support.torch_special import SPECIAL
from tests.support.torch_spectra import SPECTRA, TEXT


def _attention(x: torch.Tensor, *, grouped: bool = False) -> torch.Tensor:
    """Attend with a mask that leaves the first query nothing."""
    heads = x.view(-1, 5, 2, 2).transpose(1, 2)
    keys = heads[:, :1] if grouped else heads
    allowed = torch.ones(5, 5).tril(-1).bool() & (x[..., 0] > -9)[:, None, None]
    return functional.scaled_dot_product_attention(heads, keys, keys * 2, attn_mask=allowed, enable_gqa=grouped)


_OTHERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "arithmetic of a constant and a tensor": (lambda x: 2 - torch.arange(4.0) / (x**2 + 1), TEXT),
    "channels of an image scaled by constants": (lambda x: x * torch.arange(1.0, 4).view(3, 1, 1), IMAGE),
    "rows of an image scaled by constants": (lambda x: x + torch.arange(6.0).view(6, 1), IMAGE),
    "activations": (
        lambda x: (
            functional.silu(x)
            + functional.gelu(x)
            + functional.leaky_relu(x)
            + functional.elu(x)
            + functional.hardswish(x)
        ),
        TEXT,
    ),
    "approximate GELU": (lambda x: functional.gelu(x, approximate="tanh"), TEXT),
    "limits": (
        lambda x: x.clamp(min=-0.5) + x.clamp(-1, 1) + functional.relu6(x) + functional.hardtanh(x, -0.3, 0.2),
        TEXT,
    ),
    "functions": (
        lambda x: torch.exp(x) + torch.sin(x) + torch.erf(x) + torch.rsqrt(x.abs() + 1) - x.reciprocal(),
        TEXT,
    ),
    "comparison and choice": (lambda x: torch.where(x > 0, x, 0.1) + x.masked_fill(x < -1, 3.0), TEXT),
    "mask of integers": (lambda x: (x > 0).to(torch.float32) + x.ge(0.2).int(), TEXT),
    "an in-place operator": (lambda x: (x + 1).relu_().mul_(2), TEXT),
    "flatten of an image": (lambda x: torch.flatten(x, 1), IMAGE),
    "rows as a sequence": (lambda x: x.flatten(2).transpose(1, 2), IMAGE),
    "groups of channels": (lambda x: x.view(2, 1, 3, 6, 8).sum(1), IMAGE),
    "heads": (lambda x: x.view(-1, 5, 2, 2).transpose(1, 2).softmax(-1).transpose(1, 2).reshape(-1, 5, 4), TEXT),
    "permutation": (lambda x: x.permute(0, 2, 3, 1) * 2, IMAGE),
    "one axis more and less": (lambda x: x.unsqueeze(1).squeeze(1).unsqueeze(-1), TEXT),
    "join of images": (lambda x: torch.cat([x, x * 2], 1) + torch.stack([x, x], 1).flatten(1, 2), IMAGE),
    "split": (lambda x: sum(part * i for i, part in enumerate(x.chunk(2, -1))) + x.split([2, 2], -1)[1], TEXT),
    "unbind": (lambda x: x.unbind(1)[1] - x.unbind(1)[3], TEXT),
    "expansion": (lambda x: x[:, :1].expand(-1, 5, -1) * x, TEXT),
    "repetition": (lambda x: x.repeat(1, 2, 1) + x.repeat_interleave(2, dim=1), TEXT),
    "flip and roll": (lambda x: x.flip([1]) + x.roll(2, 1), TEXT),
    "means": (lambda x: x.mean((2, 3)) + x.amax((2, 3)) + x.sum((2, 3), keepdim=True).flatten(1), IMAGE),
    "variance": (lambda x: x.var(-1) + x.std(-1, correction=0) + x.norm(dim=-1) + x.cumsum(1)[..., 0], TEXT),
    "softmax of channels": (lambda x: x.softmax(1) + functional.log_softmax(x, 1), IMAGE),
    "largest values": (lambda x: (x.max(1).values, x.argmax(-1)), TEXT),
    "product with a vector": (lambda x: x @ torch.arange(4.0) + x[:, 0] @ torch.ones(4, 5), TEXT),
    "softplus with a factor and a threshold": (
        lambda x: functional.softplus(x, 2.0, 1.0) + functional.softplus(x, 0.5) - functional.softplus(x),
        TEXT,
    ),
    "a table for each row that is the same for all examples": (
        lambda x: (x.flatten(0, 1) + torch.arange(20.0).view(1, 5, 4).expand(x.shape[0], 5, 4).reshape(-1, 4)).view(
            -1, 5, 4
        ),
        TEXT,
    ),
    "product of tensors": (lambda x: x @ x.transpose(1, 2), TEXT),
    "products added to a tensor, scaled": (
        lambda x: (
            torch.baddbmm(x[:, :1, :1], x, x.transpose(1, 2), beta=0.5, alpha=2.0)
            + torch.baddbmm(x[:, :1, :1], x, x.transpose(1, 2), beta=0)
        ),
        TEXT,
    ),
    "einsum": (lambda x: torch.einsum("btc,bsc->bts", x, x), TEXT),
    "gated linear unit": (lambda x: functional.glu(x, -1), TEXT),
    "a dict of outputs": (lambda x: {"first": x + 1, "second": x.mean(-1)}, TEXT),
    "rows repeated for each example": (lambda x: torch.arange(12.0).view(3, 4).repeat(x.shape[0], 1), TEXT),
    "joined heads after a product": (
        lambda x: (
            (x[:, None] @ x[:, None].transpose(2, 3) @ x.view(-1, 5, 2, 2).transpose(1, 2)).transpose(1, 2).flatten(2)
        ),
        TEXT,
    ),
    "joins of joins": (lambda x: torch.cat([x, x * 2, torch.cat([x, x * 2], 2).tanh(), x * 3], 2), TEXT),
    "aliases": (lambda x: torch.multiply(x, 2).subtract(1).true_divide(3), TEXT),
    "rows that attend to nothing": (_attention, TEXT),
    "queries in groups": (lambda x: _attention(x, grouped=True), TEXT),
    "attention without heads": (lambda x: functional.scaled_dot_product_attention(x, x * 2, x), TEXT),
    "numbers read from a constant": (
        lambda x: torch.cat([torch.sin(x * number) for number in (2.0 ** torch.arange(3)).tolist()], -1),
        TEXT,
    ),
    "decompositions of matrices": (
        lambda x: (
            torch.linalg.slogdet(x[:, :4] + 3 * torch.eye(4))[1]
            + torch.linalg.eigvalsh(x[:, :4] + x[:, :4].mT).sum(-1)
            + torch.linalg.eigh(x[:, :4] + x[:, :4].mT)[0].amax(-1)
            + torch.linalg.svdvals(x).sum(-1)
        ),
        TEXT,
    ),
    "stack of zeros and the input": (lambda x: torch.stack([torch.zeros_like(x), x * 2], 1).cos(), TEXT),
    "matrices": (
        lambda x: (
            torch.linalg.inv(x[:, :4] + 5 * torch.eye(4))
            + torch.linalg.solve(x[:, :4] + 5 * torch.eye(4), x[:, 1:])
            + torch.linalg.det(x[:, :4])[:, None, None]
            + torch.linalg.cholesky(x[:, :4].transpose(1, 2) @ x[:, :4] + torch.eye(4))
        ),
        TEXT,
    ),
    "triangles and diagonals": (
        lambda x: (
            torch.tril(x @ x.transpose(1, 2)) + torch.triu(x @ x.transpose(1, 2), 1),
            torch.diagonal(x, 1, 1, 2),
            torch.diag_embed(x[:, 0]),
        ),
        TEXT,
    ),
    "norms of any order": (
        lambda x: x.norm(1, -1) + x.norm(float("inf"), -1) + x.norm(3, -1) + torch.linalg.norm(x, dim=-1),
        TEXT,
    ),
    "einsum with an ellipsis": (lambda x: torch.einsum("...ij,...kj->...ik", x, x), TEXT),
    "operators that torch computes with others": (
        lambda x: (
            torch.addcmul(x, x, x, value=0.5)
            + torch.lerp(x, x * 2, 0.3)
            + functional.cosine_similarity(x, x.flip(1), dim=-1)[..., None]
            + torch.logit(torch.sigmoid(x))
            + torch.var_mean(x, -1, keepdim=True)[1]
            + torch.frac(x)
            + functional.softplus(x, beta=2)
        ),
        TEXT,
    ),
    "integers": (
        lambda x: (
            (x * 10).long() // 3 + (x * 10).long() % 3 + torch.div((x * 10).long(), 3, rounding_mode="trunc"),
            (x * 10).long() & 6,
            (x > 0).sum(-1) / 2,
            (x > 0) * 3,
        ),
        TEXT,
    ),
    "axes swapped, and fewer repetitions than axes": (
        lambda x: x.swapdims(1, 2).tile(2, 1) + x[:, None].swapaxes(-3, 2).flatten(1, 2).mT.repeat(1, 2, 1),
        TEXT,
    ),
    "einsum in capital letters": (lambda x: torch.einsum("B I d, B J d -> B I J", x, x[:, :3]), TEXT),
    "shifts of bits": (lambda x: ((x * 4).int() << 2) + ((x * 40).int() >> 1), TEXT),
    "distances": (
        lambda x: (
            torch.cdist(x, x[:, :3] + 1) + torch.cdist(x, x[:, :3], p=1.0) + torch.cdist(x, x[:, :3], p=torch.inf)
        ),
        TEXT,
    ),
    "sign of another tensor": (lambda x: torch.copysign(x, x.flip(1)) + torch.copysign(x, -2.0), TEXT),
    "tensors broadcast together": (lambda x: sum(torch.broadcast_tensors(x, x[:, :1], torch.ones(4))), TEXT),
    "the middle of the axes": (
        lambda x: (
            torch.fft.fftshift(x, (1, 2)) + torch.fft.ifftshift(x, 1) + torch.fft.fftshift(torch.fft.fft(x), 2).real
        ),
        TEXT,
    ),
    "repetition of a constant for each sample": (
        lambda x: (torch.arange(4.0).view(1, 1, 4).repeat(1, x.shape[0], 2)[0, :, :4, None] + x.mT, torch.arange(3)),
        TEXT,
    ),
}

CASES = _OTHERS | IMAGES | PLACES | SPECTRA | SPECIAL

__all__ = ["CASES", "IMAGE", "TEXT"]
