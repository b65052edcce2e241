"""Simulation: build a design with Verilator, run it through cocotb, compare with golden."""

from sim.compare import Difference, first_difference
from sim.run import Result, Simulator, Stall, simulate
from sim.verify import Verdict, verify

__all__ = [
    "Difference",
    "Result",
    "Simulator",
    "Stall",
    "Verdict",
    "first_difference",
    "simulate",
    "verify",
]
