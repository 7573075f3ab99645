"""Find the torch tensors that a Keras model needs no variables for, as a run of both models has shown."""

from keras3conv.planner.probe.search import Search


def constants_shown(search: Search) -> dict[str, str]:
    """Return the torch buffers that Keras needs no variable for, each with the reason; none if the outputs differ.

    The probe did not change the values of these buffers, and the outputs agree. So Keras has the same values as
    constants, or no output of the torch model depends on them.

    Args:
        search: The search, after the run of the Keras model.
    """
    run = search.run
    if search.output_comparison.result != "equal":
        return {}
    buffers = [one.path for one in run.view.tensors() if not one.trainable and one.path not in run.weights]
    unused = unused_tensors(search)
    reasons = "the outputs agree, so Keras has it as a constant", "no output of the module depends on it"
    return {path: reasons[path in unused] for path in buffers}


def unused_tensors(search: Search) -> frozenset[str]:
    """Return the torch tensors on which no output of the module depended in the run.

    Args:
        search: The search, after the run of the Keras model.
    """
    return frozenset(path for path in search.run.tensor_bits if not search.run.is_used(path))
