"""Draw the differences of layers along the depth of a model, with the noise floor and the limit that decides."""

from collections.abc import Iterator, Sequence
from math import isfinite

from keras3conv.numerics.judgement import NOISE_FACTOR, Judgement
from keras3conv.report.values import LIMIT, Plot, Series


def plots_by_depth(
    labels: tuple[str, ...],
    whole: Sequence[Judgement | None],
    isolated: Sequence[Judgement | None],
    failed: Sequence[int],
) -> Iterator[Plot]:
    """Yield a plot of the differences in the whole model, and one that has those in isolation as well.

    Args:
        labels: The name of each layer call.
        whole: The judgement of each call in the whole model; None if there is nothing to compare.
        isolated: The judgement of each layer in isolation.
        failed: The indices of the calls that failed.
    """
    deviations = tuple(one.deviation if one else None for one in whole)
    alone = tuple(one.deviation if one else None for one in isolated)
    compared = {
        "largest difference along the depth": {"difference": deviations},
        "in the whole model and in isolation": {"whole model": deviations, "in isolation": alone},
    }
    is_given = any(one is not None and one.allowed is not None for one in whole)
    limit = f"{LIMIT}: the given tolerance" if is_given else f"{LIMIT}: {NOISE_FACTOR:g} x the noise floor"
    judged_by = {
        "noise floor": tuple(one.floor if one else None for one in whole),
        limit: tuple(one.limit if one and isfinite(one.limit) else None for one in whole),
    }
    for title, differences in compared.items():
        yield Plot(
            title=title,
            labels=labels,
            series=tuple(Series(name=name, values=values) for name, values in (differences | judged_by).items()),
            unit="absolute difference",
            failed=tuple(failed),
        )
