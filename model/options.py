"""Options of data sets, networks and solvers: those of :mod:`model.ir.options`."""

from model.ir.options import Options, checked

__all__ = ["Options", "checked"]
