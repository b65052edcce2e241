"""Tests of the hardware, in the simulator."""
