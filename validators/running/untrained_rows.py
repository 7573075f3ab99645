"""Find table rows that torch does not train (`padding_idx` of an embedding); Keras trains every row."""

from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject


def untrained_rows(subject: Subject) -> dict[str, int]:
    """Return the index of the row that torch does not train, by the path of its table: {"embed.weight": 0}.

    A tied table is listed under all its names.
    """
    rows: dict[str, int] = {}
    for layer in subject.torch_view.layers:
        row = (layer.config or {}).get("padding_idx")
        if "torch.nn.Embedding" in layer.kinds and isinstance(row, int):
            rows |= {tensor.path: row for tensor in layer.tensors if tensor.role == "weight"}
    storages = {tensor.storage: rows[tensor.path] for tensor in subject.torch_view.tensors() if tensor.path in rows}
    tied = {
        tensor.path: storages[tensor.storage]
        for tensor in subject.torch_view.tensors()
        if tensor.storage and tensor.storage in storages
    }
    return rows | tied


def without_row(gradients: tuple[Array, Array], row: int) -> tuple[Array, Array]:
    """Return the gradients of a table on both sides with one row set to zero."""
    first, second = (gradient.copy() for gradient in gradients)
    first[row], second[row] = 0.0, 0.0
    return first, second
