"""Seeded faults: every one of them must make a probe fail."""
