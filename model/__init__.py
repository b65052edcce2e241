"""Networks as data: the specification, its golden arithmetic, and the way from PyTorch to it."""
