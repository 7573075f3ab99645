"""The independent judges of a conversion; each file is one `check(subject) -> Section`.

They know paths from an alignment, and what the two models computed; of rules they ask only where the channel axis is,
so a wrong transform cannot excuse itself.
"""
