"""Frames of codes to the beats of a stream, and back."""

import numpy as np

from hdl.lib.hexfile import from_bits, to_bits
from sim.bench import SimulationError


def pack(codes: np.ndarray, lanes: int, bits: int) -> np.ndarray:
    """Codes [frames, length] as a bit matrix [frames · beats, lanes · bits]; padding is code 0."""
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % lanes)))
    return to_bits(padded.reshape(-1, lanes), bits)


def marks(frames: int, beats: int) -> np.ndarray:
    """The columns ``first`` and ``last`` of whole frames: uint8 [frames · beats, 2]."""
    frame = np.zeros((beats, 2), dtype=np.uint8)
    frame[0, 0] = frame[-1, 1] = 1
    return np.tile(frame, (frames, 1))


def unpack(
    matrix: np.ndarray, frames: int, length: int, lanes: int, bits: int, signed: bool, stream: str
) -> np.ndarray:
    """Codes int64 [frames, length] of captured beats, a bit matrix of codes and marks.

    Raises SimulationError, which names the stream, if the number of beats or a mark is wrong or a
    lane beyond a frame's end holds another code than 0.
    """
    beats = -(-length // lanes)
    if len(matrix) != frames * beats:
        raise SimulationError(f"{stream}: {len(matrix)} beats, not {frames * beats}")
    wrong = np.argwhere((matrix[:, -2:] != marks(frames, beats)).any(axis=1))
    if len(wrong):
        raise SimulationError(f"{stream}: frame marks of frame {wrong[0][0] // beats} are wrong")
    codes = from_bits(matrix[:, :-2], bits, signed).reshape(frames, beats * lanes)
    wrong = np.argwhere(codes[:, length:].any(axis=1))
    if len(wrong):
        raise SimulationError(f"{stream}: the padding of frame {wrong[0][0]} is not code 0")
    return codes[:, :length]
