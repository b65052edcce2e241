"""Frames of codes to the beats of a stream, and back."""

import numpy as np

from hdl.lib.hexfile import from_bits, to_bits
from model.ir.beats import Beats
from sim.bench import SimulationError


def pack(codes: np.ndarray, beats: Beats, bits: int) -> np.ndarray:
    """Codes [frames, length] as a bit matrix [frames · beats, lanes · bits]; padding is code 0."""
    padded = np.pad(codes, ((0, 0), (0, 1)))[:, beats.indices()]  # index -1 is the added code 0
    return to_bits(padded.reshape(-1, beats.lanes), bits)


def marks(frames: int, beats: Beats) -> np.ndarray:
    """The columns ``first`` and ``last`` of whole frames: uint8 [frames · beats, 2]."""
    frame = np.zeros((beats.count, 2), dtype=np.uint8)
    frame[0, 0] = frame[-1, 1] = 1
    return np.tile(frame, (frames, 1))


def unpack(
    matrix: np.ndarray, frames: int, beats: Beats, bits: int, signed: bool, stream: str
) -> np.ndarray:
    """Codes int64 [frames, length] of captured beats, a bit matrix of codes and marks.

    Raises SimulationError, which names the stream, if the number of beats or a mark is wrong or a
    lane of padding holds another code than 0.
    """
    count = beats.count
    if len(matrix) != frames * count:
        raise SimulationError(f"{stream}: {len(matrix)} beats, not {frames * count}")
    wrong = np.argwhere((matrix[:, -2:] != marks(frames, beats)).any(axis=1))
    if len(wrong):
        raise SimulationError(f"{stream}: frame marks of frame {wrong[0][0] // count} are wrong")
    codes = from_bits(matrix[:, :-2], bits, signed).reshape(frames, count * beats.lanes)
    kept = beats.indices().ravel() >= 0
    wrong = np.argwhere(codes[:, ~kept].any(axis=1))
    if len(wrong):
        raise SimulationError(f"{stream}: the padding of frame {wrong[0][0]} is not code 0")
    return codes[:, kept]
