"""The plan: which tensor of one model belongs to which of the other, and how it is transferred."""
