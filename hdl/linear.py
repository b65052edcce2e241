"""The stage of a fully connected layer: [repack] -> engine -> slice -> requantize."""

from amaranth.hdl import Module
from amaranth.lib import stream

from hdl.lib.numerics import code_shape
from hdl.lib.repack import Repack
from hdl.lib.stream import connect
from hdl.matrix import MatrixStage, matrix_files
from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from model.ir.linear import LinearSpec
from model.ir.mapping import EngineSpec
from model.ir.network import Node
from model.ir.repack import repacks


class LinearStage(MatrixStage):
    """A fully connected layer: the frame, flattened, in words of the engine's columns."""

    def front(self, m: Module, i: stream.Interface) -> stream.Interface:
        layer = self.node.spec
        words = Beats((layer.in_features,), self.engine.cols)
        if not repacks(self.source, words):
            return i
        m.submodules.repack = repack = Repack(code_shape(layer.in_format), self.source, words)
        connect(m, i, repack.i)
        return repack.o


@make_stage.register
def _(
    layer: LinearSpec, node: Node, engine: EngineSpec, ins: tuple[Beats, ...], lanes: int
) -> LinearStage:
    (source,) = ins
    return LinearStage(node, engine, source=source, lanes=lanes)


@stage_files.register
def _(
    layer: LinearSpec, node: Node, engine: EngineSpec, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    return matrix_files(node, engine, lanes)
