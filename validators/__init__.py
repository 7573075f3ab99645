"""The independent proofs of a certificate; each file has one `check(subject) -> Section`.

A proof reads paths from the plan and the values that the two models computed. It asks a rule only for the position of
the channel axis, so a wrong weight transform cannot excuse itself.
"""
