"""The processing-element array."""
