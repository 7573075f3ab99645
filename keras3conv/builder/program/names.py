"""Create valid and unique identifiers for generated code."""

import keyword
import re
from collections.abc import Iterable

OWN_LAYERS = "keras3conv.frameworks.torch.layers"
"""The Python module with keras3conv's torch layers, whose source code is copied into generated files."""

OWN_FUNCTIONS = "keras3conv.frameworks.torch.functions"
"""The Python module with keras3conv's torch functions, whose source code is copied into generated files."""

OWN_KERAS_FUNCTIONS = "keras3conv.frameworks.keras.functions"
"""The Python module with keras3conv's Keras functions, whose source code is copied into generated files."""

_RESERVED = frozenset(
    {
        # Attributes of torch.nn.Module, and names that the generated code uses.
        "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile", "cpu", "cuda", "double",
        "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer", "get_extra_state", "get_parameter",
        "get_submodule", "half", "ipu", "load_state_dict", "math", "modules", "mtia", "named_buffers", "named_children",
        "named_modules", "named_parameters", "nn", "parameters", "register_buffer", "register_module",
        "register_parameter", "requires_grad_", "self", "set_extra_state", "set_submodule", "share_memory",
        "state_dict", "super", "to", "to_empty", "torch", "train", "training", "type", "xpu", "zero_grad", "F",
    }
)  # fmt: skip


def identifier(text: str) -> str:
    """Convert any text to a lower-case identifier.

    "conv2_block1_1_conv" is unchanged, "1_conv" becomes "conv_1", "a-b/c" becomes "a_b_c", "MaxPooling2D" becomes
    "max_pooling2d". Only ASCII letters, digits and underscores are kept, so a name in a model file cannot inject code.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][a-z])|(?<=[0-9][A-Z])(?=[A-Z][a-z])", "_", text)
    words = re.findall(r"[a-z0-9]+", apart.lower())
    while words and words[0].isdigit() and any(not word.isdigit() for word in words):
        words.append(words.pop(0))  # an identifier cannot begin with a digit
    name = "_".join(words)
    if not name or name[0].isdigit():
        name = f"layer_{name}" if name else "layer"
    return f"{name}_" if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in _RESERVED else name


def class_identifier(text: str) -> str:
    """Convert any text to a class name: "resnet_block" becomes "ResnetBlock"."""
    return "".join(word[:1].upper() + word[1:] for word in function_identifier(text).split("_"))


def function_identifier(text: str) -> str:
    """Convert a class name to the name of a function: "MLPBlock" becomes "mlp_block", "MobileViT" "mobile_vit"."""
    short = re.sub(r"([A-Z][a-z]{1,2})([A-Z])(?=[A-Z][a-z]|\W|$)", lambda found: found[0].capitalize(), text)
    return identifier(re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", "_", short))


def unique(name: str, taken: Iterable[str], between: str = "_") -> str:
    """Return the name if it is not taken; else the name with the lowest free number from 2: "conv_2", "Block2".

    Args:
        name: The name.
        taken: The names that are taken.
        between: The text between the name and the number.
    """
    used = set(taken)
    candidate, number = name, 1
    while candidate in used:
        number += 1
        candidate = f"{name}{between}{number}"
    return candidate
