"""What the benches of many blocks have in common."""

from collections.abc import Mapping, Sequence

import numpy as np

from sim.block import Block, Pattern, Trace, check_values

Blocks = Mapping[str, Block] | Sequence[Block]
Codes = Mapping[str, np.ndarray] | Sequence[np.ndarray]
Traces = Mapping[tuple[str, Pattern], Trace]


def check_all(blocks: Blocks, expected: Codes, traces: Traces) -> None:
    """Hold what every block gave under every pattern equal to the codes expected of it.

    Blocks and codes are in one order, or by one name.
    """
    if isinstance(blocks, Mapping):
        assert isinstance(expected, Mapping)
        assert blocks.keys() == expected.keys()
        blocks, expected = list(blocks.values()), [expected[name] for name in blocks]
    assert isinstance(expected, Sequence)
    assert {name for name, _ in traces} == {block.name for block in blocks}
    for block, codes in zip(blocks, expected, strict=True):
        check_values(traces, block, codes)
