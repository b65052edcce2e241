"""The stage of the input selection: a repacker with a mask."""

import numpy as np

from hdl.lib.hexfile import hex_text
from hdl.lib.numerics import code_shape
from hdl.lib.repack import Repack
from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from model.ir.network import Node
from model.ir.select import SelectSpec


@make_stage.register
def _(layer: SelectSpec, node: Node, engine: None, ins: tuple[Beats, ...], lanes: int) -> Repack:
    (source,) = ins
    return Repack(
        code_shape(layer.format),
        source,
        Beats((layer.out_features,), lanes),
        mask=f"{node.name}_mask.hex",
    )


@stage_files.register
def _(
    layer: SelectSpec, node: Node, engine: None, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    (source,) = ins
    stays = np.isin(source.indices(), node.tensors["indices"])
    return {f"{node.name}_mask.hex": hex_text(stays.astype(np.uint8))}
