"""Streams, numerics, memories and repacking: the parts that every engine is made of."""
