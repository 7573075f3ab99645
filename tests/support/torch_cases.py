"""Test cases of torch operators for the conversion to Keras, each with the shape of its input."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from tests.support.torch_spectra import SPECTRA, TEXT

IMAGE = (2, 3, 6, 8)

CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
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
    "writing into a slice": (lambda x: _written(x) * 1, TEXT),
    "flatten of an image": (lambda x: torch.flatten(x, 1), IMAGE),
    "rows as a sequence": (lambda x: x.flatten(2).transpose(1, 2), IMAGE),
    "groups of channels": (lambda x: x.view(2, 1, 3, 6, 8).sum(1), IMAGE),
    "heads": (lambda x: x.view(-1, 5, 2, 2).transpose(1, 2).softmax(-1).transpose(1, 2).reshape(-1, 5, 4), TEXT),
    "permutation": (lambda x: x.permute(0, 2, 3, 1) * 2, IMAGE),
    "one axis more and less": (lambda x: x.unsqueeze(1).squeeze(1).unsqueeze(-1), TEXT),
    "join of images": (lambda x: torch.cat([x, x * 2], 1) + torch.stack([x, x], 1).flatten(1, 2), IMAGE),
    "slices": (lambda x: x[:, 1:, ::2].sum(-1) + x[:, :-1, 0] + x[:, 0, :1], TEXT),
    "split": (lambda x: sum(part * i for i, part in enumerate(x.chunk(2, -1))) + x.split([2, 2], -1)[1], TEXT),
    "unbind": (lambda x: x.unbind(1)[1] - x.unbind(1)[3], TEXT),
    "expansion": (lambda x: x[:, :1].expand(-1, 5, -1) * x, TEXT),
    "repetition": (lambda x: x.repeat(1, 2, 1) + x.repeat_interleave(2, dim=1), TEXT),
    "flip and roll": (lambda x: x.flip([1]) + x.roll(2, 1), TEXT),
    "constant index": (lambda x: x[:, torch.tensor([3, 0, 1])], TEXT),
    "elements of a constant row": (lambda x: torch.arange(6.0).expand(x.shape[0], 6).gather(1, x.argmax(-1)), TEXT),
    "zeros in a slice": (lambda x: _with_zeros(x) * 1, TEXT),
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
    "padding": (lambda x: functional.pad(x, (1, 2, 0, 1)) + functional.pad(x, (1, 2, 0, 1), mode="reflect"), IMAGE),
    "pooling": (
        lambda x: functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2) + functional.adaptive_avg_pool2d(x, (3, 4)),
        IMAGE,
    ),
    "pooling with a last window in part": (lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True), IMAGE),
    "resizing": (
        lambda x: functional.interpolate(x, scale_factor=2) + functional.interpolate(x, size=(12, 16), mode="bilinear"),
        IMAGE,
    ),
    "shuffled pixels": (lambda x: functional.pixel_shuffle(torch.cat([x] * 4, 1), 2), IMAGE),
    "gated linear unit": (lambda x: functional.glu(x, -1), TEXT),
    "a dict of outputs": (lambda x: {"first": x + 1, "second": x.mean(-1)}, TEXT),
}


def _with_zeros(x: torch.Tensor) -> torch.Tensor:
    made = x.clone()
    made[:, 1:3].zero_()
    return made


def _written(x: torch.Tensor) -> torch.Tensor:
    made = x + 1
    made[:, 1:3] = 0.0
    made[:, 0, 1] = made[:, 0, 2]
    return made


def _shifted_in_time(x: torch.Tensor) -> torch.Tensor:
    made = torch.zeros_like(x)
    made[:, :-1, :2] = x[:, 1:, :2]
    made[:, 1:, 2:] = x[:, :-1, 2:]
    return made


def _halves(x: torch.Tensor) -> torch.Tensor:
    return functional.fold(functional.unfold(x, (3, 2), padding=1, stride=2) * 2, (6, 8), (3, 2), padding=1, stride=2)


CASES |= {
    "resizing to any size": (
        lambda x: (
            functional.interpolate(x, size=(5, 11), mode="bilinear", align_corners=True)
            + functional.interpolate(x, size=(5, 11), mode="bicubic")
            + functional.interpolate(x, size=(5, 11))
            + functional.interpolate(x, size=(5, 11), mode="nearest-exact")
        ),
        IMAGE,
    ),
    "resizing to a smaller size without aliases": (
        lambda x: functional.interpolate(x, size=(4, 5), mode="bilinear", antialias=True),
        IMAGE,
    ),
    "resizing by a factor that is no whole number": (
        lambda x: functional.interpolate(x, scale_factor=1.3, mode="bilinear"),
        IMAGE,
    ),
    "resizing of a sequence": (lambda x: functional.interpolate(x, size=7, mode="linear"), TEXT),
    "borders": (
        lambda x: (
            functional.pad(x, (1, 2, 3, 0), mode="replicate")
            + functional.pad(x, (1, 2, 3, 0), mode="circular")
            + functional.pad(x, (1, 2, 3, 0), value=0.5)
        ),
        IMAGE,
    ),
    "a border that is cut": (lambda x: functional.pad(x, (1, -2, -1, 3)), IMAGE),
    "windows as columns": (lambda x: functional.unfold(x, (3, 2), padding=(0, 1), dilation=(1, 2), stride=2), IMAGE),
    "columns as windows": (_halves, IMAGE),
    "unshuffled pixels": (lambda x: functional.pixel_unshuffle(x, 2), IMAGE),
    "average with windows in part": (
        lambda x: functional.avg_pool2d(x, (3, 2), (2, 1), (1, 0), ceil_mode=True, count_include_pad=False),
        IMAGE,
    ),
    "convolution with a computed weight": (
        lambda x: functional.conv2d(
            x, torch.arange(54.0).view(6, 1, 3, 3).sin(), groups=3, stride=2, dilation=2, padding=3
        ),
        IMAGE,
    ),
    "one row of each example": (lambda x: x[torch.arange(x.shape[0]), x.argmax(1)[:, 0]], TEXT),
    "rows repeated for each example": (lambda x: torch.arange(12.0).view(3, 4).repeat(x.shape[0], 1), TEXT),
    "joined heads after a product": (
        lambda x: (
            (x[:, None] @ x[:, None].transpose(2, 3) @ x.view(-1, 5, 2, 2).transpose(1, 2)).transpose(1, 2).flatten(2)
        ),
        TEXT,
    ),
    "joins of joins": (lambda x: torch.cat([x, x * 2, torch.cat([x, x * 2], 2).tanh(), x * 3], 2), TEXT),
    "aliases": (lambda x: torch.multiply(x, 2).subtract(1).true_divide(3), TEXT),
}


def _attention(x: torch.Tensor, *, grouped: bool = False) -> torch.Tensor:
    """Attend with a mask that leaves the first query nothing."""
    heads = x.view(-1, 5, 2, 2).transpose(1, 2)
    keys = heads[:, :1] if grouped else heads
    allowed = torch.ones(5, 5).tril(-1).bool() & (x[..., 0] > -9)[:, None, None]
    return functional.scaled_dot_product_attention(heads, keys, keys * 2, attn_mask=allowed, enable_gqa=grouped)


def _put(x: torch.Tensor) -> torch.Tensor:
    made = x.clone()
    made[:, torch.tensor([0, 2])] = x[:, :2] * 2
    made[:, 1::2] = 0.5
    made[..., torch.tensor([3, 1])] = 1.5
    made[made > 1.7] = 0.0
    return made


def _sampled(mode: str) -> Any:
    """Return a function that samples images at positions inside, far outside, and exactly between pixels."""

    def sample(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        near = 1.3 * torch.tanh(x[:, :2].permute(0, 2, 3, 1))
        grid = torch.cat([near, 40 * near, torch.round(8 * near) / 8, 0 * near + torch.tensor([-1.0, 1.0])], 1)
        return tuple(
            functional.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=align_corners)
            for padding in ("zeros", "border", "reflection")
            for align_corners in (False, True)
        )

    return sample


def _volumes(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    volumes, grid = x[:, :, None] * torch.arange(1.0, 5).view(4, 1, 1), 1.5 * x.permute(0, 2, 3, 1)[:, :, None]
    return tuple(
        functional.grid_sample(volumes, grid, mode=mode, padding_mode=padding, align_corners=align_corners)
        for mode, padding, align_corners in (
            ("bilinear", "zeros", False),
            ("bilinear", "reflection", True),
            ("nearest", "border", False),
        )
    )


def _sampled_constants(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Sample constant images, images at constant positions, and images of one pixel."""
    grid = x[:, :2].permute(0, 2, 3, 1)
    image = torch.arange(60.0).view(1, 3, 4, 5).expand(x.shape[0], 3, 4, 5)
    places = torch.linspace(-1.2, 1.2, 24).view(1, 3, 4, 2).expand(x.shape[0], 3, 4, 2)
    return (
        functional.grid_sample(image, grid, align_corners=False),
        functional.grid_sample(x, places, align_corners=True),
        functional.grid_sample(x[:, :, :1, :1], grid, padding_mode="reflection", align_corners=True),
    )


def _unpooled(x: torch.Tensor, size: Any, more: float = 0) -> torch.Tensor:
    pooled, indices = functional.max_pool2d(x, size, return_indices=True)
    return functional.max_unpool2d(pooled * 2 + more, indices, size, output_size=x.shape[2:])


def _reduced_rows(x: torch.Tensor) -> Iterator[torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns that the function may change
        for axis, index in ((0, _rows(x)), (2, (x[0, 0] > 0).long() * 3)):
            for reduce in ("mean", "amax", "amin", "prod"):
                yield x.index_reduce(axis, index, x * 3, reduce, include_self=True)
                yield x.index_reduce(axis, index, x * 3, reduce, include_self=False)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Return an index along the batch axis for every sample: zero, or that of the sample itself."""
    return (x[:, 0, 0] > 0).long() * torch.arange(x.shape[0])


CASES |= {
    "rows that attend to nothing": (_attention, TEXT),
    "queries in groups": (lambda x: _attention(x, grouped=True), TEXT),
    "attention without heads": (lambda x: functional.scaled_dot_product_attention(x, x * 2, x), TEXT),
    "writing at places": (_put, TEXT),
    "adding at places": (lambda x: x.index_add(1, torch.tensor([0, 0, 3]), x[:, :3]), TEXT),
    "scatter": (lambda x: x.scatter(2, (x > 0).long() * 2, x * 3) + x.scatter(1, (x[:, :2] > 0).long(), 1.5), TEXT),
    "scatter that adds": (
        lambda x: torch.zeros_like(x).scatter_add(
            1, torch.tensor([0, 0, 2, 4, 1])[None, :, None].expand(x.shape[0], 5, 4), x
        ),
        TEXT,
    ),
    "adding at computed places": (
        lambda x: x.index_add(1, (x[0, :, 0] > 0).long() * 3, x * 2, alpha=0.5) + x.index_add(0, _rows(x), x * 3),
        TEXT,
    ),
    "reductions at computed places": (
        lambda x: tuple(
            x.scatter_reduce(1, (x > 0).long() * 2, x * 3, reduce, include_self=included)
            for reduce in ("sum", "mean", "amax", "amin", "prod")
            for included in (True, False)
        ),
        TEXT,
    ),
    "reductions of rows at computed places": (lambda x: tuple(_reduced_rows(x)), TEXT),
    "rows that are added at computed places": (
        lambda x: torch.zeros_like(x).scatter_add(0, _rows(x)[:, None, None].expand_as(x), x),
        TEXT,
    ),
    "integers at computed places": (
        lambda x: ((x * 9).long().scatter_reduce(1, (x > 0).long() * 2, (x * 20).long(), "amax") / 2,),
        TEXT,
    ),
    "unpooling": (lambda x: _unpooled(x, 2) + _unpooled(x, 2, more=1.5), IMAGE),
    "unpooling of a size that windows do not divide": (lambda x: _unpooled(x, (4, 3)), IMAGE),
    "gather of a part": (lambda x: x.gather(1, (x[:, :2, :3] > 0).long() * 3), TEXT),
    "constant indices along two axes": (lambda x: x[:, torch.tensor([0, 4]), torch.tensor([[2], [3]])], TEXT),
    "indices of each example along two axes": (
        lambda x: x[torch.arange(x.shape[0])[:, None], (x[:, :3, 0] > 0).long(), torch.tensor([0, 1, 3])],
        TEXT,
    ),
    "sorting": (
        lambda x: (*torch.sort(x, 1, descending=True), torch.sort(x, 1)[0], x.argsort(-1), x.median(-1)[0]),
        TEXT,
    ),
    "the largest and the smallest": (
        lambda x: (*x.topk(2, 1), x.topk(2, -1, largest=False)[0], x.kthvalue(2, 1)[0]),
        IMAGE,
    ),
    "search in a sorted sequence": (
        lambda x: (
            torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0]))
            + torch.searchsorted(torch.tensor([-0.5, 0.5]), x, right=True)
        ),
        TEXT,
    ),
    "sampling between pixels": (_sampled("bilinear"), IMAGE),
    "sampling of the nearest pixel": (_sampled("nearest"), IMAGE),
    "bicubic sampling": (_sampled("bicubic"), IMAGE),
    "sampling of volumes": (_volumes, IMAGE),
    "sampling of constants": (_sampled_constants, IMAGE),
    "an affine grid": (
        lambda x: functional.grid_sample(
            x, functional.affine_grid(x[:, 0, :2, :3] * 0.3, [2, 3, 6, 8], align_corners=False), align_corners=False
        ),
        IMAGE,
    ),
    "sliding windows": (lambda x: x.unfold(2, 3, 2).unfold(3, 2, 3), IMAGE),
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
    "writing into zeros of the shape of the input": (_shifted_in_time, TEXT),
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
}

__all__ = ["CASES", "IMAGE", "TEXT"]

CASES |= {
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
    "reflection along three axes": (
        lambda x: functional.pad(
            x[:, :, None] * torch.arange(1.0, 4).view(1, 1, 3, 1, 1), (1, 2, 0, 1, 2, 1), mode="reflect"
        ),
        IMAGE,
    ),
    "repetition of a constant for each sample": (
        lambda x: (torch.arange(4.0).view(1, 1, 4).repeat(1, x.shape[0], 2)[0, :, :4, None] + x.mT, torch.arange(3)),
        TEXT,
    ),
}

CASES |= SPECTRA
