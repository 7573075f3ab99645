"""The independent proofs of a certificate; each file has one `check(subject) -> Section`.

A proof uses the paths in the plan and the values that the two models computed. From a rule it uses only the position of
the channel axis, so a mistake in a rule's weight transform cannot hide.
"""
