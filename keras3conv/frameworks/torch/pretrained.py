"""Load a model of the package transformers from a local folder: class from `config.json`, weights from safetensors."""

import json
from pathlib import Path
from typing import Any

from keras3conv.errors import RAISED_BY_MODELS, InputError, ModelError


def load(folder: str | Path) -> Any:
    """Return the transformers model in a folder, in evaluation mode; nothing is downloaded, no code in the folder runs.

    Raises:
        InputError: transformers is not installed, or `config.json` names no class of it.
        ModelError: The weights do not fit, or are not in the safetensors format.
    """
    try:
        import transformers  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise InputError(
            f"{folder} is a folder of a transformers model, but the package transformers is not installed\nFix:  pip "
            "install transformers"
        ) from error
    names = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    cls = getattr(transformers, str(names[0]), None)
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise InputError(
            f"{folder}/config.json names the architecture {names[0]!r}, which is not a class of transformers "
            f"{transformers.__version__}\n"
            "Fix:  k3c.convert(module, inputs=example_input)  # a module of your own code"
        )
    try:
        model: Any = cls.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, *RAISED_BY_MODELS) as error:
        raise ModelError(
            f"transformers cannot load the model in {folder}: {error}"
            "\nFix:  k3c.convert(module, inputs=example_input)  # a module that you loaded"
        ) from error
    return model.eval()
