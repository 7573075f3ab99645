"""Convert plans to JSON and back. Reading a plan imports and evaluates nothing."""

import json
from collections.abc import Mapping
from typing import Any

from keras3conv.alignment.pair import Evidence, Ignored, Pair, Plan
from keras3conv.errors import AlignmentError, TransformError
from keras3conv.model.views import InputSpec, LayerRun, LayerView, ModelView, TensorRef
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import from_json

VERSION = 1


def dump(plan: Plan) -> str:
    """Return a plan as JSON."""
    data = {
        "keras3conv": "alignment",
        "format": plan.format,
        "pairs": [_dump_pair(pair) for pair in plan.pairs],
        "ignored": [{"side": entry.side, "path": entry.path, "reason": entry.reason} for entry in plan.ignored],
        "torch": _dump_view(plan.torch),
        "keras": _dump_view(plan.keras),
        "notes": list(plan.notes),
        "difference": plan.difference,
    }
    return json.dumps(data, indent=1)


def load(text: str) -> dict[str, Any]:
    """Return the fields of the plan in a JSON text.

    Raises:
        AlignmentError: The text is not a plan, or its format version is unknown.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AlignmentError(f"not a plan: it is not JSON ({error})") from None
    if not isinstance(data, Mapping) or data.get("keras3conv") != "alignment":
        raise AlignmentError('not a plan: the JSON has no "keras3conv": "alignment"')
    if data.get("format") != VERSION:
        raise AlignmentError(f"the plan has format {data.get('format')!r}; this version of keras3conv reads {VERSION}")
    try:
        return {
            "pairs": tuple(map(_load_pair, data["pairs"])),
            "ignored": tuple(Ignored(**_strings(entry)) for entry in data["ignored"]),
            "torch": _load_view(data["torch"], "torch"),
            "keras": _load_view(data["keras"], "keras"),
            "notes": tuple(map(str, data.get("notes", ()))),
            "difference": str(data.get("difference", "")),
        }
    except (KeyError, TypeError, AttributeError, ValueError, TransformError) as error:
        raise AlignmentError(f"not a plan: {type(error).__name__}: {error}") from None


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
        torch=str(data["torch"]),
        keras=str(data["keras"]),
        rule=str(data["rule"]),
        weights=tuple(
            WeightMapping(
                torch=tuple(map(str, mapping["torch"])),
                keras=tuple(map(str, mapping["keras"])),
                transform=from_json(mapping["transform"]),
            )
            for mapping in data["weights"]
        ),
        evidence=tuple(Evidence(**_strings(evidence)) for evidence in data["evidence"]),
        candidates=tuple(map(str, data["candidates"])),
    )


def _dump_view(view: ModelView) -> dict[str, Any]:
    return {
        "name": view.name,
        "origin": view.origin,
        "fingerprint": view.fingerprint,
        "inputs": [{"shape": list(spec.shape), "dtype": spec.dtype, "name": spec.name} for spec in view.input_specs],
        "layers": [_dump_layer(layer) for layer in view.layers],
    }


def _load_view(data: Mapping[str, Any], side: Any) -> ModelView:
    view = ModelView(
        side=side,
        name=str(data["name"]),
        origin=str(data["origin"]),
        input_specs=tuple(
            InputSpec(shape=tuple(spec["shape"]), dtype=str(spec["dtype"]), name=str(spec["name"]))
            for spec in data["inputs"]
        ),
        layers=tuple(map(_load_layer, data["layers"])),
    )
    if view.fingerprint != data["fingerprint"]:
        raise AlignmentError(f"not a plan: the names and shapes of {view.title} do not match its fingerprint")
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
        path=str(data["path"]),
        kinds=tuple(map(str, data["kinds"])),
        config=data["config"],
        attribute=str(data["attribute"]),
        run=LayerRun(
            calls=None if data["calls"] is None else tuple(map(int, data["calls"])),
            flattened=None if data["flattened"] is None else tuple(map(int, data["flattened"])),
        ),
        tensors=tuple(
            TensorRef(
                path=str(tensor["path"]),
                role=str(tensor["role"]),
                shape=tuple(map(int, tensor["shape"])),
                dtype=str(tensor["dtype"]),
                trainable=bool(tensor["trainable"]),
                storage=str(tensor["storage"]),
                location=str(tensor["location"]),
                is_computed=bool(tensor.get("computed", False)),  # older plans have no such field
            )
            for tensor in data["tensors"]
        ),
    )


def _strings(data: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): str(value) for name, value in data.items()}
