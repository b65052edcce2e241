"""Tests of the package that a generated accelerator is handed over in."""
