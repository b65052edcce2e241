"""The AXI shell: AXI4-Stream in and out, AXI4-Lite registers."""
