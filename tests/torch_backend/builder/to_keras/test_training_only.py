"""What the code of a torch module computes in training mode only is not converted, and the certificate names it."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import keras3conv as k3c
from keras3conv.frameworks.torch.training_only import training_only
from keras3conv.report.values import NOT_CONVERTED


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x) if self.training else x


class Auxiliary(nn.Module):
    """Returns a second result in training mode."""

    def forward(self, x: torch.Tensor) -> Any:
        return (x * 2, x.mean()) if self.training else x * 2


class Demanding(nn.Module):
    """Raises in training mode, as a detector without targets does."""

    def forward(self, x: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        if self.training:
            assert targets is not None
        return x * 2


class Converted(nn.Module):
    """Reads its mode for what is converted, or for what computes the same."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.linear, x, use_reentrant=False) if self.training else self.linear(x)
        x = functional.dropout(x, 0.5, self.training)
        x = torch.dropout(x, 0.5, self.training)
        x = functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], None, self.training * 0.5)[:, 0]
        x = functional.batch_norm(x, self.mean, self.variance, training=self.training)
        return x * 2 if self.training else x + x


class Growing(nn.Module):
    """Writes into a list that it gets, as an attention with a cache of its keys does."""

    def forward(self, x: torch.Tensor, cache: list[torch.Tensor]) -> torch.Tensor:
        cache.append(x)
        return functional.dropout(torch.stack(cache).sum(0), 0.5, self.training)


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.growing = Growing()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.growing(x, [])
        return made


def sentences(*layers: nn.Module) -> tuple[str, ...]:
    return training_only(nn.Sequential(*layers).eval(), ((torch.randn(3, 4),), {}), ())


@pytest.mark.parametrize("kind", [Noisy, Auxiliary, Demanding])
def test_a_module_that_computes_something_else_in_training_mode_is_named(kind: type[nn.Module]) -> None:
    assert sentences(nn.Linear(4, 4), kind()) == (
        f"1 ({kind.__name__}): its code computes something else in training mode, which is not converted",
    )


def test_modules_of_one_class_are_listed_together() -> None:
    (sentence,) = sentences(*(Noisy() for _ in range(5)))
    assert sentence.startswith("0, 1, 2 and 2 more (Noisy): ")


def test_what_is_converted_or_computes_the_same_is_not_named() -> None:
    module = Converted()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    assert sentences(module, nn.Dropout(0.5), nn.BatchNorm1d(4), Caching()) == ()
    assert not module.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


def test_modules_whose_training_is_converted_are_left_out() -> None:
    module = nn.Sequential(Noisy()).eval()
    assert training_only(module, ((torch.randn(3, 4),), {}), {"0"}) == ()


@pytest.mark.slow
def test_the_certificate_names_what_acts_in_training_only() -> None:
    report = k3c.convert(nn.Sequential(nn.Linear(4, 3), Noisy()), inputs=torch.randn(2, 4)).report
    assert report is not None
    assert report.ok
    (section,) = (section for section in report.sections if section.name == "hyperparameters")
    assert section.facts[NOT_CONVERTED].startswith("1 (Noisy): its code computes something else in training mode")
