"""Modules whose code switches gradients off or on, and modules with distributions."""

import torch
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence

import keras3conv as k3c


class Teacher(nn.Module):
    """A module with a part that is not trained, as the teacher of a distillation."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = self.teacher(x).softmax(-1)
            with torch.enable_grad():
                target = target * 2
        made: torch.Tensor = self.student(x) - target
        return made


class Policy(nn.Module):
    """A module that computes with distributions, which test their parameters by default."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.mean = nn.Linear(4, 5), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        chosen = Categorical(logits=self.logits(x))
        action = Normal(self.mean(x), torch.full((3,), 0.5))
        prior = Normal(torch.zeros(3), torch.ones(3))
        return chosen.entropy(), chosen.probs, action.log_prob(x[:, :3]), kl_divergence(action, prior)


def proven(module: nn.Module) -> str:
    conversion = k3c.convert(module.eval(), inputs=torch.randn(3, 4))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    return conversion.source


def test_a_block_without_gradients_has_none_in_keras() -> None:
    assert proven(Teacher()).count("stop_gradient") == 1


def test_a_module_with_distributions_is_converted_without_their_tests_of_values() -> None:
    before = torch.distributions.Distribution._validate_args
    proven(Policy())
    assert torch.distributions.Distribution._validate_args == before
