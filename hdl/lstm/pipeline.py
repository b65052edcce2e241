"""The stage of an LSTM: gates, element-wise part, projection, and the way back of y."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.numerics import code_shape
from hdl.lib.repack import Repack
from hdl.lib.rom import address_bits
from hdl.lib.stream import beat_stream, connect, transfer
from hdl.lstm.cell import Cells, cell_files
from hdl.lstm.gather import Columns, Gather, Rescale
from hdl.lstm.marks import mark_stream
from hdl.stage import make_stage, stage_files
from model.ir.beats import Beats
from model.ir.lstm import LSTMSpec
from model.ir.lstm_array import LSTMArraySpec, rescales
from model.ir.network import Node
from model.ir.repack import repacks


class LSTMStage(wiring.Component):
    """An LSTM: a stream of steps in, a stream of steps out, and a mark for each step.

    ::

        i -> [rescale, repack] -> [Columns] -> [gates] -> [gather] -> [Cells] -> [project] -.-> o
                                      ^ y(t-1)                         c memory             |
                                      '----------------- [repack] <-------------------------'

    All parts work at once, on different steps: the frames are those of ``sequences`` slots in turn,
    frame n of slot ``n mod sequences``. A frame waits in front of the gates until y of the one
    before it in its slot is written. The frame of an idle slot goes the same way, but changes no
    state and leaves as zeros.

    Parameters
    ----------
    node : Node
    engine : LSTMArraySpec
    source : Beats
        The input stream.
    lanes : int
        Codes per beat of the output stream.

    Members
    -------
    i : In(stream of codes)
    marks : In(stream of marks)
        One a frame, taken when its y(t-1) has been read.
    o : Out(stream of codes)
    step, step_project : Out(1)
        The engine of the gates, of the projection performs a step; the latter only if there is one.

    Cycles, latency, memory and multipliers: ``engine.cost(node.spec, (source,), lanes)``.
    """

    def __init__(self, node: Node, engine: LSTMArraySpec, *, source: Beats, lanes: int) -> None:
        self.node, self.engine, self.source, self.lanes = node, engine, source, lanes
        layer: LSTMSpec = node.spec
        ports = {
            "i": In(beat_stream(code_shape(layer.in_format), source.lanes)),
            "marks": In(mark_stream()),
            "o": Out(beat_stream(code_shape(layer.out_format), lanes)),
            "step": Out(1),
        }
        if engine.project is not None:
            ports["step_project"] = Out(1)
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        layer, engine = self.node.spec, self.engine
        x_shape = code_shape(layer.gates.in_format)
        m.submodules.columns = columns = Columns(layer, engine)
        x = wiring.flipped(self.i)
        if rescales(layer):
            m.submodules.rescale = rescale = Rescale(layer, self.source.lanes)
            connect(m, x, rescale.i)
            x = rescale.o
        self._repacked(m, "words", x_shape, x, self.source, columns.x)

        # The marks of a frame, by its slot: as many frames as slots can be on their way.
        begin, idle = (Signal(engine.sequences, name=name) for name in ("begin", "idle"))
        m.d.comb += [
            columns.ready.eq(self.marks.valid),
            columns.begin.eq(self.marks.p.begin),
            self.marks.ready.eq(columns.last),
        ]
        with m.If(columns.last):
            m.d.sync += [
                begin.bit_select(columns.slot, 1).eq(self.marks.p.begin),
                idle.bit_select(columns.slot, 1).eq(self.marks.p.idle),
            ]

        args = engine.gates_layer(layer), engine.gates_node(self.node), engine.gates
        m.submodules.gates = gates = make_stage(*args, (engine.words(layer),), engine.gate_lanes)
        m.submodules.cells = cells = Cells(self.node, engine)
        connect(m, columns.o, gates.i)
        entry = Beats((4 * layer.cells,), engine.gate_lanes)
        gate_shape = code_shape(layer.gates.out_format)
        if engine.gathers(layer):
            groups = engine.groups(layer)
            parts = groups.lanes // entry.lanes
            m.submodules.gather = gather = Gather(
                gate_shape, lanes=entry.lanes, parts=parts, count=groups.count
            )
            connect(m, gates.o, gather.i)
            connect(m, gather.o, cells.i)
        else:
            self._repacked(m, "groups", gate_shape, gates.o, entry, cells.i)
        m.d.comb += [
            self.step.eq(gates.step),
            cells.begin.eq(begin.bit_select(cells.slot, 1)),
            cells.idle.eq(idle.bit_select(cells.slot, 1)),
        ]
        y = cells.o
        if engine.project is not None:
            node = engine.project_node(self.node)
            args = node.spec, node, engine.project, (engine.hidden(layer),), self.lanes
            m.submodules.project = project = make_stage(*args)
            connect(m, y, project.i)
            m.d.comb += self.step_project.eq(project.step)
            y = project.o

        # y leaves and comes back, each beat at once on both ways.
        beats = engine.natural(layer, self.lanes)
        out, back = (beat_stream(x_shape, beats.lanes).create(path=(n,)) for n in ("out", "back"))
        slot, none = Signal(address_bits(engine.sequences)), Signal()
        m.d.comb += [
            none.eq(idle.bit_select(slot, 1)),
            out.valid.eq(y.valid & back.ready),
            back.valid.eq(y.valid & out.ready),
            y.ready.eq(out.ready & back.ready),
            back.p.eq(y.p),
            out.p.eq(y.p),
        ]
        with m.If(none):
            m.d.comb += out.p.codes.as_value().eq(0)
        with m.If(transfer(y) & y.p.last):
            m.d.sync += slot.eq(Mux(slot == engine.sequences - 1, 0, slot + 1))
        self._repacked(m, "out", x_shape, out, beats, wiring.flipped(self.o))
        self._repacked(m, "back", x_shape, back, beats, columns.y)
        m.d.comb += columns.idle.eq(idle.bit_select(columns.write_slot, 1))
        return m

    def _repacked(self, m: Module, name: str, shape, source, before: Beats, sink) -> None:
        """Connect two streams of the same frames, with a repacker if their lanes differ."""
        after = Beats(before.shape, len(sink.p.codes))
        if not repacks(before, after):
            connect(m, source, sink)
            return
        m.submodules[f"repack_{name}"] = repack = Repack(shape, before, after)
        connect(m, source, repack.i)
        connect(m, repack.o, sink)


@make_stage.register
def _(
    layer: LSTMSpec, node: Node, engine: LSTMArraySpec, ins: tuple[Beats, ...], lanes: int
) -> LSTMStage:
    (source,) = ins
    return LSTMStage(node, engine, source=source, lanes=lanes)


@stage_files.register
def _(
    layer: LSTMSpec, node: Node, engine: LSTMArraySpec, ins: tuple[Beats, ...], lanes: int
) -> dict[str, str]:
    part = engine.gates_node(node)
    files = stage_files(part.spec, part, engine.gates, (engine.words(layer),), engine.gate_lanes)
    if engine.project is not None:
        part = engine.project_node(node)
        entry = (engine.hidden(layer),)
        files |= stage_files(part.spec, part, engine.project, entry, lanes)
    return files | cell_files(node, engine)
