"""The stage of the input selection: a repacker with a mask."""

import numpy as np

from hdl.lib.hexfile import hex_text
from hdl.lib.numerics import code_shape
from hdl.lib.repack import Repack
from hdl.stage import make_stage, stage_files
from model.ir.network import Node
from model.ir.select import SelectSpec


@make_stage.register
def _(layer: SelectSpec, node: Node, engine: None, in_lanes: int, lanes: int) -> Repack:
    return Repack(
        code_shape(layer.format),
        in_length=layer.in_features,
        length=layer.out_features,
        in_lanes=in_lanes,
        lanes=lanes,
        mask=f"{node.name}_mask.hex",
    )


@stage_files.register
def _(layer: SelectSpec, node: Node, engine: None, in_lanes: int, lanes: int) -> dict[str, str]:
    mask = np.zeros(layer.in_features + -layer.in_features % in_lanes, dtype=np.uint8)
    mask[node.tensors["indices"]] = 1
    return {f"{node.name}_mask.hex": hex_text(mask.reshape(-1, in_lanes))}
