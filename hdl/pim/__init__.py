"""Processing in memory: the SOT-MRAM macro and how it is programmed."""
