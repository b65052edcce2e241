"""The stage of a convolution: [repack] -> window -> engine -> slice -> requantize."""

from amaranth.hdl import Module
from amaranth.lib import stream

from hdl.conv.window import Window
from hdl.lib.numerics import code_shape
from hdl.lib.repack import Repack
from hdl.lib.stream import connect
from hdl.matrix import MatrixStage, matrix_files
from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from model.ir.conv import ConvSpec
from model.ir.mapping import EngineSpec
from model.ir.network import Node
from model.ir.repack import repacks


class ConvStage(MatrixStage):
    """A convolution: the window of each position is a vector, its words as the engine reads them.

    The lanes into the window are those that ``engine.window`` states; a stream of other lanes is
    laid out anew, pixel by pixel.
    """

    def front(self, m: Module, i: stream.Interface) -> stream.Interface:
        layer, plan = self.node.spec, self.engine.window(self.node.spec)
        shape, pixels = code_shape(layer.in_format), Beats(self.source.shape, plan.lanes)
        if repacks(self.source, pixels):
            m.submodules.repack = repack = Repack(shape, self.source, pixels)
            connect(m, i, repack.i)
            i = repack.o
        m.submodules.window = window = Window(
            layer, shape, lanes=plan.lanes, banks=plan.banks, order=plan.order, ahead=plan.ahead
        )
        connect(m, i, window.i)
        return window.o


@make_stage.register
def _(
    layer: ConvSpec, node: Node, engine: EngineSpec, ins: tuple[Beats, ...], lanes: int
) -> ConvStage:
    (source,) = ins
    return ConvStage(node, engine, source=source, lanes=lanes)


@stage_files.register
def _(
    layer: ConvSpec, node: Node, engine: EngineSpec, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    return matrix_files(node, engine, lanes)
