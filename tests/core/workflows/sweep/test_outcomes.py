"""The line that says why a task of a sweep failed."""

from keras3conv.errors import AlignmentError, Problem
from keras3conv.messages import lay_out
from keras3conv.report.values import Section
from keras3conv.workflows.sweep.outcomes import as_keys, of_error, with_cause


def test_the_line_of_an_error_has_its_headline_and_its_first_problem() -> None:
    problems = [Problem(keras="gate", fact="it is a cond", fixes=("x = 1",)), Problem(keras="last", fact="unknown")]
    assert (
        of_error(AlignmentError(lay_out("2 problems in net", problems)))
        == "2 problems in net: gate (keras) it is a cond"
    )
    both = Problem(torch="fc", keras="dense", fact="other shapes")
    assert of_error(AlignmentError(lay_out("1 problem", [both]))) == "1 problem: fc <-> dense: other shapes"


def test_an_error_without_problems_is_its_first_line() -> None:
    assert of_error(AlignmentError("wrong\nFix:  this")) == "wrong"
    assert of_error(MemoryError()) == "MemoryError"


def test_a_long_line_is_cut() -> None:
    assert of_error(AlignmentError("x" * 1000)).endswith("x ...")


def test_the_line_of_a_proof_has_the_layer_and_the_cause_once() -> None:
    problem = Problem(torch="1", keras="norm", fact="eps is 1e-5, epsilon is 0.1")
    section = Section(name="float64", status="failed", claim="", summary="they differ", problems=(problem,))
    told = with_cause("float64: they differ", (section, problem))
    assert told == "1 <-> norm: eps is 1e-5, epsilon is 0.1; float64: they differ"
    assert with_cause(told, (section, problem)) == told
    assert with_cause("float64: they differ", None) == "float64: they differ"


def test_an_option_of_the_command_line_is_a_key_in_a_sweep() -> None:
    assert (
        as_keys("--keras-weights w.h5 would not be used: leave the option out")
        == 'keras_weights = "w.h5" would not be used: leave the key out'
    )
    assert as_keys("were called without --torch-weights") == "were called without torch_weights"
