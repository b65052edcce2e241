"""From generated Verilog to standard cells: area, timing, and energy from simulated activity."""
