"""The runs of the proof in float64 that differ in one number are listed together."""

from keras3conv.validators.running.exercised import in_groups


def test_runs_that_differ_in_one_number_are_listed_together() -> None:
    names = ["at values of 32", "at size 31x30", "at size 64x64", "at values of 2e+03", "at values of 4e-06"]
    assert in_groups(names) == ["at values of 32, 2e+03 and 4e-06", "at size 31x30 and 64x64"]


def test_other_runs_keep_their_names() -> None:
    names = ["at values of 32 and size 63x62", "with padding at the start", "at values of 4e-06"]
    assert in_groups(names) == names
