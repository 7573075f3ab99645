"""Prepare a transfer: check the plan against both models, and compute the new values of the model to write."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from keras3conv.alignment.forced import is_forced
from keras3conv.alignment.made_for import made_for_others
from keras3conv.alignment.pair import tensors_by_path
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import Problem, TransferError, TransformError, first_of, message_of
from keras3conv.messages import count, lay_out
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.model.wrappers import named_as
from keras3conv.numerics.copying import is_finite
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Array, Axes


@dataclass(frozen=True, kw_only=True)
class Staging:
    """A transfer whose plan was checked, and which has written nothing yet.

    A mapping of the plan leads from one or more tensors of the source (the model to read), by a transform, to one or
    more tensors of the target (the model to write). The values of a mapping are computed when one of them is read, and
    are not kept.

    Attributes:
        plan: The checked plan.
        source: The view of the model to read.
        target: The view of the model to write.
        cast: Whether values may be converted to a target dtype of less precision, such as float32 to float16.
        not_finite: For each source tensor that was read and has NaN or infinite values, by path, the number of these
            values.
    """

    plan: Alignment
    source: ModelView
    target: ModelView
    cast: bool = False
    not_finite: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    _counted: set[str] = field(default_factory=set, compare=False, repr=False)

    @cached_property
    def _mapping_of(self) -> dict[str, WeightMapping]:
        return {path: mapping for mapping in self.plan.mappings for path in mapping.names(self.target.side)}

    @cached_property
    def _target_tensors(self) -> dict[str, TensorRef]:
        return tensors_by_path(self.target)

    @cached_property
    def _mapped_name_of(self) -> dict[str, str]:
        """For each target tensor that the plan writes, its path by the identifier of its memory (`storage`).

        Tied tensors have several paths and the same memory; the plan has values for at least one of these paths.
        """
        return {tensor.storage: tensor.path for tensor in self.target.tensors() if tensor.path in self._mapping_of}

    def has(self, tensor: TensorRef) -> bool:
        """Return True if the plan has values for a tensor of the target, or for a tensor that is tied to it."""
        return tensor.path in self._mapping_of or (bool(tensor.storage) and tensor.storage in self._mapped_name_of)

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The paths of the target tensors that the plan writes, in the order in which the target has them."""
        return tuple(tensor.path for tensor in self.target.tensors() if tensor.path in self._mapping_of)

    def require_equal_ties(self) -> None:
        """Raise `TransferError` if the plan would write different values into tied weights of the target."""
        names: dict[str, list[str]] = {}
        for path in self.paths:
            if storage := self._target_tensors[path].storage:
                names.setdefault(storage, []).append(path)
        problems = []
        for path, *others in names.values():
            for other in others:
                problems += self._unequal(path, other)
        if problems:
            raise self._refused(problems)

    def _unequal(self, path: str, tied: str) -> list[Problem]:
        """Return a list with one problem if the plan would write different values to two tied tensors; else none.

        Args:
            path: The path of one tensor of the target.
            tied: The path of the tensor that is tied to it.
        """
        first, second = self.read(path), self.read(tied)
        if np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
            return []
        sources = [", ".join(self._mapping_of[name].names(self.source.side)) for name in (path, tied)]
        apart = float(np.max(np.abs(first.astype(np.float64) - second.astype(np.float64))))
        fact = (
            f"this tensor is tied to {tied}, but their sources {sources[0]} and {sources[1]} differ, by up to "
            f"{apart:.3g}"
        )
        fact += f"; untie them in {self.target.title}, or make the sources equal"
        return [Problem.on(self.target.side, path, fact, _untied(path) if self.target.side == "torch" else ())]

    def values(self, finite: Collection[str] | None = None) -> Iterator[tuple[str, Array]]:
        """Yield the path and the new value of every target tensor in the plan; each source tensor is read once.

        Args:
            finite: See `values_and_sources`.

        Raises:
            TransferError: A value would lose precision, or an array does not have the planned shape.
        """
        for path, value, _ in self.values_and_sources(finite=finite):
            yield path, value

    def values_and_sources(
        self, *, counted: bool = True, finite: Collection[str] | None = None
    ) -> Iterator[tuple[str, Array, tuple[str, ...]]]:
        """Yield, for every target tensor in the plan, its path, its new value, and the paths of its source tensors.

        Args:
            counted: Whether to count NaN and infinite values in `not_finite`; each source array is searched for them
                once.
            finite: A collection that the caller extends: the path of each yielded value without NaN and infinity.
                Source arrays whose values are in it are not searched.
        """
        for mapping in self.plan.mappings:
            sources = mapping.names(self.source.side)
            values = self._apply(mapping, counted=counted and finite is None)
            for path, value in values.items():
                yield path, value, sources
            if finite is not None and not (
                isinstance(mapping.transform, Axes) and all(map(finite.__contains__, values))
            ):
                self._count(sources, tuple(self.source.read(path) for path in sources))

    def require_dropped(self) -> None:
        """Raise `TransferError` if a source tensor has no counterpart in the target, and values that would be lost.

        Such tensors are a bias of zeros and a scale of ones. No target tensor is computed from them, so a target that
        is written tensor by tensor never reads them.
        """
        for mapping in self.plan.mappings:
            if not mapping.names(self.target.side):
                self._apply(mapping, counted=False)

    def require_values(self) -> None:
        """Compute every new value once without keeping it, so that an error is raised before anything is written.

        Raises:
            TransferError: A value would lose precision, or an array does not have the planned shape.
        """
        for mapping in self.plan.mappings:
            self._apply(mapping, counted=False)  # they are counted when they are written, and in the cache for it

    def read(self, path: str) -> Array:
        """Return the new value of a target tensor.

        Args:
            path: The path of the tensor; the plan must have values for it, or for a tensor that is tied to it.
        """
        return self.read_together(path)[path]

    def read_together(self, path: str) -> dict[str, Array]:
        """Return the new values, by path, of a target tensor and of the others that the same mapping computes."""
        if path in self._mapping_of:
            return self._apply(self._mapping_of[path])
        tied = self._mapped_name_of[self._target_tensors[path].storage]
        return {path: self._apply(self._mapping_of[tied])[tied]}

    def notes(self) -> tuple[str, ...]:
        """Return sentences for the report: a warning about the source file, and where it has NaN or infinite values."""
        warning = self.source.facts.get("warning")
        found = [f"{path} ({number:,})" for path, number in self.not_finite.items()]
        total = sum(self.not_finite.values())
        moved = f"{count(total, 'value')} NaN or infinite, moved as they are: {first_of(found, 5)}"
        return (*([warning] if warning else ()), *([moved] if found else ()))

    def _apply(self, mapping: WeightMapping, *, counted: bool = True) -> dict[str, Array]:
        """Return the new values of the target tensors of one mapping, by path.

        Args:
            mapping: The mapping.
            counted: Whether to count the NaN and infinite values of its source tensors in `not_finite`.
        """
        sources, targets = mapping.names(self.source.side), mapping.names(self.target.side)
        arrays = tuple(self.source.read(path) for path in sources)
        if counted:
            self._count(sources, arrays)
        transform = mapping.transform if self.target.side == "keras" else mapping.transform.inverse
        try:
            results = transform(arrays)
        except TransformError as error:
            where = (*targets, *sources)[0]
            side = self.target.side if targets else self.source.side
            raise self._refused([Problem.on(side, where, message_of(error))]) from error
        return {path: self._fitted(path, array, mapping) for path, array in zip(targets, results, strict=True)}

    def _count(self, paths: tuple[str, ...], arrays: tuple[Array, ...]) -> None:
        """Count the NaN and infinite values of source tensors in `not_finite`, unless they were counted before."""
        for path, array in zip(paths, arrays, strict=True):
            if path not in self._counted:
                self._counted.add(path)
                if number := _count_not_finite(array):
                    self.not_finite[path] = number

    def _fitted(self, path: str, array: Array, mapping: WeightMapping) -> Array:
        """Return a transformed array in the dtype of the target tensor that gets its values.

        Args:
            path: The path of the target tensor.
            array: The transformed array.
            mapping: The mapping that it comes from, for the message of an error.

        Raises:
            TransferError: The shape differs from the target's, or the cast can lose precision and `cast` is False.
        """
        wanted = self._target_tensors[path]
        if array.shape != wanted.shape:
            sources = ", ".join(mapping.names(self.source.side))
            fact = f"{sources} becomes an array of shape {array.shape}, but {path} has shape {wanted.shape}"
            raise self._refused([Problem.on(self.target.side, path, fact)])
        dtype = _dtype(wanted.dtype)
        if array.dtype == dtype:
            return array
        if not self.cast and not np.can_cast(array.dtype, dtype, "safe"):
            fact = f"{array.dtype.name} cannot be converted to {wanted.dtype} without loss of precision"
            raise self._refused(
                [Problem.on(self.target.side, path, fact, ("k3c.transfer(source, target, plan, cast=True)",))]
            )
        return array.astype(dtype)

    def _refused(self, problems: list[Problem]) -> TransferError:
        headline = f"nothing was transferred from {self.source.title} to {self.target.title}"
        return TransferError(lay_out(headline, problems))


def _untied(path: str) -> tuple[str, ...]:
    """Return a line of Python, in a tuple, that unties a torch parameter by giving it a separate copy of its values."""
    owner, _, name = path.rpartition(".")
    own = f'torch.nn.Parameter(target.get_parameter("{path}").detach().clone())'
    return (f'target.get_submodule("{owner}").{name} = {own}',)


def stage(plan: Alignment, source: ModelView, target: ModelView, *, cast: bool = False) -> Staging:
    """Check that a plan is complete and made for these two models, and return the prepared transfer.

    Args:
        plan: The plan for these two models.
        source: The model to read. Its names may start with the prefix of a wrapper ("module."). This function reads
            only the values of tied weights, and those of tensors without a counterpart in the target.
        target: The model to write.
        cast: Whether values may be converted to a target dtype of less precision, such as float32 to float16.

    Raises:
        AlignmentError: The plan has problems, or the probe found an output difference that may come from its weights.
        TransferError: The plan is for other models, has different values for weights that are tied in the target, or
            would lose values of tensors that have no counterpart in it.
    """
    (plan.accepting_difference() if is_forced(plan) else plan).check()
    source = named_as(source, plan.torch)
    for view in (source, target):
        planned = plan.torch if view.side == "torch" else plan.keras
        if view.fingerprint != planned.fingerprint:
            raise TransferError(lay_out("nothing was transferred:", made_for_others((planned, view))))
    staging = Staging(plan=plan, source=source, target=target, cast=cast)
    staging.require_equal_ties()
    staging.require_dropped()
    return staging


def _count_not_finite(array: Array) -> int:
    """Return the number of values that are NaN or infinite, for every dtype that has such values."""
    if array.dtype.kind in "biu" or array.size == 0:
        return 0
    if is_finite(array):
        return 0
    return array.size - int(np.count_nonzero(np.isfinite(array)))


@lru_cache(64)
def _dtype(name: str) -> np.dtype[np.generic]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # numpy does not know bfloat16 and float8; ml_dtypes adds them

        dtype: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, name))
        return dtype
