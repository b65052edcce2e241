"""Simulation: build a design with Verilator, run it through cocotb, compare with golden."""
