"""Memory contents as text: the form that ``$readmemh`` and ``$writememh`` share.

A memory is a bit matrix, uint8 [words, width], lowest bit first; one word a line, hexadecimal, with
leading zeros.
"""

import numpy as np


def to_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Integers [words, n] as a bit matrix [words, n · bits], the first in the lowest bits."""
    codes = np.asarray(codes, dtype=np.int64)
    planes = (codes[..., None] >> np.arange(bits)) & 1
    return planes.astype(np.uint8).reshape(len(codes), -1)


def from_bits(matrix: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """The inverse of :func:`to_bits`: int64 [words, n]."""
    planes = matrix.reshape(len(matrix), -1, bits).astype(np.int64)
    codes = planes @ (1 << np.arange(bits, dtype=np.int64))
    return codes - (planes[..., -1] << bits) if signed else codes


def hex_text(matrix: np.ndarray) -> str:
    """A bit matrix as the text of a memory file."""
    words, width = matrix.shape
    packed = np.packbits(matrix, axis=1, bitorder="little")[:, ::-1]
    digits, have = -(-width // 4), 2 * packed.shape[1]
    text = np.frombuffer(packed.tobytes().hex().encode(), dtype=np.uint8).reshape(words, have)
    lines = np.full((words, digits + 1), ord("\n"), dtype=np.uint8)
    lines[:, :digits] = text[:, have - digits :]
    return lines.tobytes().decode()


def read_hex(text: str, width: int) -> np.ndarray:
    """The text of a memory file as a bit matrix; comments and addresses are left out."""
    digits = -(-width // 4)
    lines = [line for line in text.split("\n") if line and line[0] not in "/@"]
    if any(len(line) != digits for line in lines):
        raise ValueError(f"words must have {digits} hexadecimal digits")
    have = digits + digits % 2
    packed = bytes.fromhex("".join(line.rjust(have, "0") for line in lines))
    matrix = np.frombuffer(packed, dtype=np.uint8).reshape(len(lines), have // 2)[:, ::-1]
    return np.unpackbits(matrix, axis=1, bitorder="little")[:, :width]
