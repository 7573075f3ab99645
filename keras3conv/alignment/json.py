"""Convert plans to JSON text, and JSON text to plans. Reading a plan imports no module and evaluates no code."""

import json
import re
from collections.abc import Mapping
from typing import Any

from keras3conv.alignment.pair import Evidence, Ignored, Pair, Plan
from keras3conv.errors import AlignmentError, quoted
from keras3conv.model.views import InputSpec, LayerRun, LayerView, ModelView, TensorRef
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import from_json
from keras3conv.writing import indented

VERSION = 1

_MAX_TEXT = 20_000
_MAX_AXES, _MAX_AXIS = 32, 1 << 40
_MAX_DEPTH = 64
_DTYPE = re.compile(r"bool|string|q?u?int\d{1,2}(x\d)?|b?float\d{1,3}(_[a-z0-9]{2,20})?|complex\d{1,3}|bits[x0-9]*")


def dump(plan: Plan) -> str:
    """Return a plan as a JSON text, which `load` reads."""
    data = {
        "keras3conv": "alignment",
        "format": plan.format,
        "pairs": [_dump_pair(pair) for pair in plan.pairs],
        "ignored": [{"side": entry.side, "path": entry.path, "reason": entry.reason} for entry in plan.ignored],
        "torch": _dump_view(plan.torch),
        "keras": _dump_view(plan.keras),
        "notes": list(plan.notes),
        "difference": plan.difference,
        "accepted_difference": plan.accepted_difference,
    }
    return indented.dumps(data)


def load(text: str) -> dict[str, Any]:
    """Return the fields of a plan from its JSON text, or from the `metadata.json` of a conversion, which contains it.

    Raises:
        AlignmentError: The text is not a plan, or its format version is unknown.
    """
    try:
        data = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise AlignmentError(f"the text is not a plan: it is not JSON ({error}); plan.to_json() writes one") from None
    if isinstance(data, Mapping) and isinstance(data.get("alignment"), Mapping):
        data = data["alignment"]
    if not isinstance(data, Mapping) or data.get("keras3conv") != "alignment":
        raise AlignmentError(
            'the JSON is not a plan: it has no entry "keras3conv": "alignment"; plan.to_json() writes one'
        )
    if data.get("format") != VERSION:
        raise AlignmentError(
            f"the plan has the format {quoted(data.get('format'))}, but this version of keras3conv reads the "
            f"format {VERSION}"
            "\nFix:  plan = k3c.align(torch, keras)  # make the plan again"
        )
    if _is_deep(data):
        raise AlignmentError(
            f"the JSON is not a plan: it has more than {_MAX_DEPTH} levels of lists and objects"
            "; plan.to_json() writes one"
        )
    try:
        return {
            "pairs": tuple(map(_load_pair, data["pairs"])),
            "ignored": tuple(Ignored(**_strings(entry)) for entry in data["ignored"]),
            "torch": _load_view(data["torch"], "torch"),
            "keras": _load_view(data["keras"], "keras"),
            "notes": tuple(map(_text, data.get("notes", ()))),
            "difference": _text(data.get("difference", "")),
            "accepted_difference": _text(data.get("accepted_difference", "")),
        }
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise AlignmentError(
            f"the JSON is not a plan ({type(error).__name__}: {error}); plan.to_json() writes one"
        ) from None


def _dump_pair(pair: Pair) -> dict[str, Any]:
    return {
        "torch": pair.torch,
        "keras": pair.keras,
        "rule": pair.rule,
        "weights": [
            {"torch": list(mapping.torch), "keras": list(mapping.keras), "transform": mapping.transform.to_json()}
            for mapping in pair.weights
        ],
        "evidence": [{"kind": evidence.kind, "detail": evidence.detail} for evidence in pair.evidence],
        "candidates": list(pair.candidates),
    }


def _load_pair(data: Mapping[str, Any]) -> Pair:
    return Pair(
        torch=_text(data["torch"]),
        keras=_text(data["keras"]),
        rule=_text(data["rule"]),
        weights=tuple(
            WeightMapping(
                torch=tuple(map(_text, mapping["torch"])),
                keras=tuple(map(_text, mapping["keras"])),
                transform=from_json(mapping["transform"]),
            )
            for mapping in data["weights"]
        ),
        evidence=tuple(Evidence(**_strings(evidence)) for evidence in data["evidence"]),
        candidates=tuple(map(_text, data["candidates"])),
    )


def _dump_view(view: ModelView) -> dict[str, Any]:
    return {
        "name": view.name,
        "origin": view.origin,
        "fingerprint": view.fingerprint,
        "inputs": [{"shape": list(spec.shape), "dtype": spec.dtype, "name": spec.name} for spec in view.input_specs],
        "layers": [_dump_layer(layer) for layer in view.layers],
        **({"entry": view.state_dict} if view.state_dict else {}),
    }


def _load_view(data: Mapping[str, Any], side: Any) -> ModelView:
    view = ModelView(
        side=side,
        name=_text(data["name"]),
        origin=_text(data["origin"]),
        input_specs=tuple(
            InputSpec(shape=_free_sizes(spec["shape"]), dtype=_dtype(spec["dtype"]), name=_text(spec["name"]))
            for spec in data["inputs"]
        ),
        layers=tuple(map(_load_layer, data["layers"])),
        facts={"state dict": _text(data["entry"])} if "entry" in data else {},  # older plans have no such field
    )
    if view.fingerprint != data["fingerprint"]:
        raise AlignmentError(
            f"the plan was changed after it was written: the names and shapes of {view.title} do not match the "
            "fingerprint in the JSON"
            "\nFix:  plan = k3c.align(torch, keras)  # make the plan again"
        )
    return view


def _dump_layer(layer: LayerView) -> dict[str, Any]:
    return {
        "path": layer.path,
        "kinds": list(layer.kinds),
        "config": None if layer.config is None else dict(layer.config),
        "calls": None if layer.run.calls is None else list(layer.run.calls),
        "attribute": layer.attribute,
        "flattened": None if layer.run.flattened is None else list(layer.run.flattened),
        "tensors": [
            {
                "path": tensor.path,
                "role": tensor.role,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "trainable": tensor.trainable,
                "storage": tensor.storage,
                "location": tensor.location,
                "computed": tensor.is_computed,
            }
            for tensor in layer.tensors
        ],
    }


def _load_layer(data: Mapping[str, Any]) -> LayerView:
    return LayerView(
        path=_text(data["path"]),
        kinds=tuple(map(_text, data["kinds"])),
        config=_config(data["config"]),
        attribute=_text(data["attribute"]),
        run=LayerRun(
            calls=None if data["calls"] is None else _places(data["calls"]),
            flattened=None if data["flattened"] is None else _sizes(data["flattened"]),
        ),
        tensors=tuple(
            TensorRef(
                path=_text(tensor["path"]),
                role=_text(tensor["role"]),
                shape=_sizes(tensor["shape"]),
                dtype=_dtype(tensor["dtype"]),
                trainable=bool(tensor["trainable"]),
                storage=_text(tensor["storage"]),
                location=_text(tensor["location"]),
                is_computed=bool(tensor.get("computed", False)),  # older plans have no such field
            )
            for tensor in data["tensors"]
        ),
    )


def _strings(data: Mapping[str, Any]) -> dict[str, Any]:
    return {_text(name): _text(value) for name, value in data.items()}


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key occurs twice in one object of the plan's JSON")
    return made


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise TypeError(f"the plan has {quoted(value)} instead of a text of at most {_MAX_TEXT:,} characters")
    value.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    return value


def _dtype(value: Any) -> str:
    if not _DTYPE.fullmatch(_text(value)):
        raise ValueError(f"the plan gives a tensor the unknown dtype {quoted(value)}")
    return str(value)


def _sizes(values: Any) -> tuple[int, ...]:
    sizes = _places(values)
    if len(sizes) > _MAX_AXES or max(sizes, default=0) > _MAX_AXIS:
        raise ValueError(f"a tensor cannot have the shape {quoted(sizes)}, which the plan gives it")
    return sizes


def _free_sizes(values: Any) -> tuple[int | None, ...]:
    _sizes([value for value in values if value is not None])
    return tuple(values)


def _places(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        raise TypeError(f"the plan has {quoted(values)} instead of a list of whole numbers of 0 or more")
    return tuple(values)


def _config(value: Any) -> Any:
    if value is not None and not isinstance(value, dict):
        raise TypeError(f"the plan has {quoted(value)} instead of a layer's configuration, a JSON object or null")
    return value


def _is_deep(value: Any) -> bool:
    """Return True if a JSON value has more than `_MAX_DEPTH` levels of lists and objects, too many for Python."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        inside = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [item for items in inside for item in items]
    return bool(level)
