"""The independent proofs of a certificate (the report of `validate`); each file has one `check(subject) -> Section`.

A proof uses the paths in the plan and the values that the two models computed. A proof takes only the position of the
channel axis from a rule, so a mistake in a rule's weight transform cannot hide.
"""
