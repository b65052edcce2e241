"""Frames as the transfers of a stream of the shell: numbers, each code in its container."""

import numpy as np

from model.ir.beats import Beats


def contained(codes: np.ndarray, beats: Beats, bits: int) -> list[list[int]]:
    """The transfers of frames int64 [frames, length]: a number for each beat, ``bits`` a code."""
    places = beats.indices()
    words = np.where(places < 0, 0, codes[:, places]) & ((1 << bits) - 1)
    return [
        [sum(int(code) << (bits * lane) for lane, code in enumerate(beat)) for beat in frame]
        for frame in words
    ]


def codes_of(data: bytes, beats: Beats, bits: int, signed: bool) -> np.ndarray:
    """The codes of one frame out of the bytes of its transfers, int64 [length].

    Raises ValueError unless there are as many containers as the frame's beats have lanes.
    """
    size, places = bits // 8, beats.indices().ravel()
    if len(data) != size * len(places):
        raise ValueError(f"a frame must have {size * len(places)} bytes, not {len(data)}")
    codes = [
        int.from_bytes(data[n : n + size], "little", signed=signed)
        for n in range(0, len(data), size)
    ]
    out = np.zeros(beats.length, dtype=np.int64)
    used = places >= 0
    out[places[used]] = np.array(codes, dtype=np.int64)[used]
    return out
