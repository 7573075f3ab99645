"""Find weights that torch computes from others (weight norm), and that the two models train differently."""

from keras3conv.errors import Problem
from keras3conv.validators.running.subject import Subject


def trained_as_a_whole(subject: Subject) -> list[Problem]:
    """Return a problem for each weight that Keras trains directly, but torch computes from tensors that it trains."""
    computed = {tensor.path for tensor in subject.torch_view.tensors() if tensor.is_computed and tensor.trainable}
    fact = "torch trains the tensors from which it computes this weight, Keras trains the weight itself"
    return [
        Problem(torch=path, keras=", ".join(mapping.keras), fact=fact)
        for mapping in subject.plan.mappings
        for path in mapping.torch
        if path in computed and mapping.keras
    ]


def kept_states(subject: Subject) -> list[Problem]:
    """Return a problem for each weight that torch computes from a buffer, as in spectral norm.

    Torch updates the buffer in training; in Keras it is constant.
    """
    from keras3conv.frameworks.torch.in_parts import buffers_of

    found = buffers_of(subject.torch, subject.in_parts)
    fact = "in training mode torch changes {} (spectral norm: by a power iteration), which Keras leaves unchanged"
    return [Problem(torch=path, fact=fact.format(" and ".join(names))) for path, names in found.items()]
