"""The plan: which tensor of one model belongs where in the other, and the transfer of weights by it."""
