"""The only place that moves weights: view both sides, check the plan, stage everything, then write.

The underscore: a module must not shadow the public function of the same name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras3conv.alignment.pair import tensors_by_path
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import Problem, TransferError, TransformError
from keras3conv.messages import count, lay_out
from keras3conv.model.views import ModelView, Side, TensorRef
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Array, Transform


@dataclass(frozen=True, kw_only=True)
class Staging:
    """Everything that a transfer will write, checked; the values are made one mapping at a time when they are read.

    Attributes:
        plan: The checked plan.
        source: The side that is read.
        target: Names, shapes and dtypes of the side that is written.
        cast: Whether a value may lose precision to fit the target's dtype.
    """

    plan: Alignment
    source: ModelView
    target: ModelView
    cast: bool = False

    @cached_property
    def _mapping_of(self) -> dict[str, WeightMapping]:
        return {path: mapping for mapping in self.plan.mappings for path in getattr(mapping, self.target.side)}

    @cached_property
    def _wanted(self) -> dict[str, TensorRef]:
        return tensors_by_path(self.target)

    @cached_property
    def _names_of_ties(self) -> dict[str, str]:
        """For every storage that is written, the name under which the plan has it."""
        return {tensor.storage: tensor.path for tensor in self.target.tensors() if tensor.path in self._mapping_of}

    def has(self, tensor: TensorRef) -> bool:
        """Whether a tensor of the target is written, under its own name or one that it is tied to."""
        return tensor.path in self._mapping_of or (bool(tensor.storage) and tensor.storage in self._names_of_ties)

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The tensors that will be written, in the target's order."""
        return tuple(tensor.path for tensor in self.target.tensors() if tensor.path in self._mapping_of)

    def require_equal_ties(self) -> None:
        """Raises `TransferError` where one tensor of the target would be given two values, under two of its names."""
        names: dict[str, list[str]] = {}
        for path in self.paths:
            if storage := self._wanted[path].storage:
                names.setdefault(storage, []).append(path)
        problems = [
            Problem.on(self.target.side, path, fact, fixes)
            for path, *others in names.values()
            for other in others
            for fact, fixes in self._contradictions(path, other)
        ]
        if problems:
            raise TransferError(
                lay_out(f"nothing was transferred from {self.source.title} to {self.target.title}", problems)
            )

    def _contradictions(self, path: str, other: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        first, second = self.read(path), self.read(other)
        if not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
            given = [", ".join(getattr(self._mapping_of[name], self.source.side)) for name in (path, other)]
            apart = float(np.max(np.abs(first.astype(np.float64) - second.astype(np.float64))))
            fact = f"is one tensor with {other}, and {given[0]} and {given[1]} differ, by up to {apart:.3g}"
            yield fact, (f"# untie {path} and {other} in {self.target.title}, or make {given[1]} what {given[0]} is",)

    def values(self) -> Iterator[tuple[str, Array]]:
        """Every tensor of the target with its new value; each mapping is read and transformed once.

        Raises:
            TransferError: A value would lose precision, or is not of the planned shape.
        """
        for mapping in self.plan.mappings:
            yield from self._apply(mapping).items()

    def read(self, path: str) -> Array:
        """The new value of one tensor of the target; a tied name reads what it is tied to."""
        if path not in self._mapping_of:
            path = self._names_of_ties[self._wanted[path].storage]
        return self._apply(self._mapping_of[path])[path]

    def _apply(self, mapping: WeightMapping) -> dict[str, Array]:
        side = self.target.side
        arrays = tuple(self.source.read(path) for path in getattr(mapping, self.source.side))
        try:
            results = direction(mapping, side)(arrays)
        except TransformError as error:
            raise self._refused(
                (getattr(mapping, side) or getattr(mapping, self.source.side))[0], str(error)
            ) from error
        made = dict(zip(getattr(mapping, side), results, strict=True))
        return {path: self._fitted(path, array, mapping) for path, array in made.items()}

    def _fitted(self, path: str, array: Array, mapping: WeightMapping) -> Array:
        wanted = self._wanted[path]
        if array.shape != wanted.shape:
            fact = f"{', '.join(getattr(mapping, self.source.side))} becomes {array.shape}; {path} is {wanted.shape}"
            raise self._refused(path, fact)
        dtype = _dtype(wanted.dtype)
        if array.dtype == dtype:
            return array
        if not self.cast and not np.can_cast(array.dtype, dtype, "safe"):
            fact = f"{array.dtype.name} does not fit {wanted.dtype} without loss"
            raise self._refused(path, fact, ("transfer(..., cast=True)",))
        return array.astype(dtype)

    def _refused(self, path: str, fact: str, fixes: tuple[str, ...] = ()) -> TransferError:
        problem = Problem.on(self.target.side, path, fact, fixes)
        return TransferError(
            lay_out(f"nothing was transferred from {self.source.title} to {self.target.title}", [problem])
        )


def direction(mapping: WeightMapping, to: Side) -> Transform:
    """The transform of a mapping towards a side."""
    return mapping.transform if to == "keras" else mapping.transform.inverse


def stage(plan: Alignment, source: ModelView, target: ModelView, *, cast: bool = False) -> Staging:
    """Checks that a plan is complete and for these two models, and prepares the transfer.

    Of the source, only what is one tensor in the target is read.

    Raises:
        AlignmentError: The plan has problems.
        TransferError: The plan is for other models, or one tensor of the target would be given two values.
    """
    plan.check()
    for view, planned in ((source, _side(plan, source.side)), (target, _side(plan, target.side))):
        if view.fingerprint != planned.fingerprint:
            problems = list(differences(planned, view))
            what = f"the plan is for {planned.title}, and {view.title} is another model"
            raise TransferError(lay_out(f"{what} ({count(len(problems), 'difference')})", problems))
    staging = Staging(plan=plan, source=source, target=target, cast=cast)
    staging.require_equal_ties()
    return staging


def _side(plan: Alignment, side: Side) -> ModelView:
    return plan.torch if side == "torch" else plan.keras


def differences(planned: ModelView, found: ModelView) -> Iterator[Problem]:
    """What a model has and a plan has not, or has otherwise: names and shapes; nothing if the plan is for this model.

    Args:
        planned: A side of the plan.
        found: That side, as it is.
    """
    before, now = _shapes(planned), _shapes(found)
    side = found.side
    for path in (path for path in before if path not in now):
        yield Problem.on(side, path, f"{before[path]} is in the plan, and not in the model")
    for path in (path for path in now if path not in before):
        yield Problem.on(side, path, f"{now[path]} is in the model, and not in the plan")
    for path in (path for path in before if path in now):
        if before[path] != now[path]:
            yield Problem.on(side, path, f"is {now[path]}; the plan has {before[path]}")


def _shapes(view: ModelView) -> Mapping[str, tuple[int, ...]]:
    return {tensor.path: tensor.shape for tensor in view.tensors() if not tensor.is_seed}


def _dtype(name: str) -> np.dtype[np.generic]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # a dtype that numpy does not know is one of its extensions: bfloat16, float8

        dtype: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, name))
        return dtype
