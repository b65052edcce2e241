"""The accelerator: a network under a mapping, one stage a node, all working at once.

An edge that several nodes read ends in a fork; FIFOs stand before the inputs that the mapping
names.
"""

from amaranth.hdl import Cat, Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.fifo import Fifo
from hdl.lib.fork import Fork
from hdl.lib.numerics import code_shape
from hdl.lib.stream import beat_layout, beat_stream, connect, transfer
from hdl.lstm.marks import mark_stream, spread
from hdl.pim.program import program_stream
from hdl.stage import INPUTS, make_stage, stage_files
from model.ir.errors import BadInput
from model.ir.interleave import slots_of
from model.ir.mapping import FifoMapping, Mapping
from model.ir.network import Network


def fill_port(fifo: FifoMapping) -> str:
    """Name of the port with the fill of a FIFO."""
    return f"fill_{fifo.node}_{fifo.input}"


def count_ports(mapping: Mapping) -> list[tuple[str, str, str]]:
    """Of each number that an engine counts: the port's name, the node's and the number's."""
    return [
        (f"{name}_{stage.node}", stage.node, name)
        for stage in mapping.stages
        if stage.engine is not None
        for name in mapping.engine(stage.engine).counts
    ]


class Accelerator(wiring.Component):
    """Frames of input codes in, frames of output codes out.

    Throughput: ``max over the stages of cost.cycles`` cycles a frame, as ``mapping.costs`` states.

    Parameters
    ----------
    network : Network
    mapping : Mapping
    taps : bool
        Show every stage's output stream on ports ``tap_<node>``, for the comparison of all layers.

    Members
    -------
    i : In(stream of ``mapping.input_lanes`` input codes)
    o : Out(stream of output codes, as many lanes as the last stage has)
    marks : In(stream of marks)
        One a frame, of a recurrent network alone: the frame is a step of slot ``n mod slots``.
    step_<node> : Out
        Steps that the node's engine begins (only nodes with an engine).
    <count>_<node> : Out(32)
        What the node's engine counts besides: see count_ports.
    fill_<node>_<input> : Out
        Beats in the FIFO before an input of the node (only where there is one).
    program : In(program_stream)
        A row for the cells of a layer, ``layer`` being its place in ``mapping.cell_rows``; only
        where there are such layers. It transfers when it is written (PimArray). It may be given
        while no frame is inside and none is offered; from then on frames wait until it is written.
    program_failed, program_pulse : Out(1)
        See PimArray.
    tap_<node> : Out(beat) and moves_<node> : Out(1)
        A beat of the node's output moves in this cycle (only with ``taps``).

    Raises
    ------
    BadInput
        If the mapping does not fit the network.
    """

    # An accelerator is also a description, of which no hardware need be made: no warning for that.
    _MustUse__silence = True

    def __init__(self, network: Network, mapping: Mapping, taps: bool = False) -> None:
        mapping.check(network)
        used = [stage.engine for stage in mapping.stages if stage.engine is not None]
        shared = sorted({name for name in used if used.count(name) > 1})
        if shared:
            raise BadInput(
                "mapping: engines",
                f"several nodes on {', '.join(shared)}",
                "an engine of its own for each node (time-multiplexing is not generated yet)",
                "plan again",
            )
        self.network, self.mapping, self.taps = network, mapping, taps
        ports = {
            "i": In(beat_stream(code_shape(network.input.format), mapping.input_lanes)),
            "o": Out(self.stream(network.output.name)),
        }
        self.slots = slots_of(mapping, network) if network.recurrent else None
        if network.recurrent:
            ports["marks"] = In(mark_stream())
        self.cells = mapping.cell_rows(network)
        if self.cells:
            ports["program"] = In(program_stream(self.cells))
            ports |= {"program_failed": Out(1), "program_pulse": Out(1)}
        for fifo in mapping.fifos:
            ports[fill_port(fifo)] = Out(range(fifo.depth + 1))
        ports |= {port: Out(32) for port, _, _ in count_ports(mapping)}
        for stage in mapping.stages:
            if stage.engine is not None:
                ports[f"step_{stage.node}"] = Out(mapping.engine(stage.engine).step_bits)
            if taps:
                shape = code_shape(network.format(stage.node))
                ports[f"tap_{stage.node}"] = Out(beat_layout(shape, stage.lanes))
                ports[f"moves_{stage.node}"] = Out(1)
        super().__init__(ports)

    def stream(self, edge: str):
        """Signature of the stream on an edge of the network."""
        return beat_stream(*self._beat(edge))

    def _beat(self, edge: str) -> tuple[Shape, int]:
        """Shape of a code and codes per beat on an edge."""
        return code_shape(self.network.format(edge)), self.mapping.lanes(self.network, edge)

    def files(self) -> dict[str, str]:
        """Contents of all .hex files, by file name."""
        files: dict[str, str] = {}
        for node, args in self._stages():
            files |= stage_files(node.spec, node, *args)
        return files

    def _stages(self):
        for stage, node in zip(self.mapping.stages, self.network.nodes, strict=True):
            engine = None if stage.engine is None else self.mapping.engine(stage.engine)
            yield node, (engine, self.mapping.inputs(self.network, node), stage.lanes)

    def elaborate(self, platform):
        m, network = Module(), self.network
        entry, loaded = wiring.flipped(self.i), {}
        if any(engine.spec.loads for engine in self.mapping.engines):
            entry = self._entry(m, loaded)
        streams, marked = self._fork(m, network.input.name, entry), {}
        for node, args in self._stages():
            stage = make_stage(node.spec, node, *args)
            m.submodules[node.name] = stage
            for number, name in enumerate(INPUTS[len(node.inputs)]):
                source = streams.pop((node.name, number))
                fifo = self.mapping.fifo(node.name, number)
                if fifo is not None:
                    source = self._wait(m, fifo, source)
                connect(m, source, getattr(stage, name))
            streams |= self._fork(m, node.name, stage.o)
            if node.spec.recurrent:
                marked[node.name] = stage.marks
            if args[0] is not None:
                if args[0].loads:
                    m.d.comb += loaded[node.name].eq(stage.loaded)
                m.d.comb += getattr(self, f"step_{node.name}").eq(stage.step)
                for name in args[0].counts:
                    m.d.comb += getattr(self, f"{name}_{node.name}").eq(getattr(stage, name))
            if self.taps:
                m.d.comb += [
                    getattr(self, f"tap_{node.name}").eq(stage.o.p),
                    getattr(self, f"moves_{node.name}").eq(transfer(stage.o)),
                ]
        connect(m, streams[network.output.name, 0], wiring.flipped(self.o))
        if marked:
            spread(m, self.marks, marked)
        if self.cells:
            self._program(m)
        return m

    def _program(self, m: Module) -> None:
        """Rows from outside go to the layer that they name."""
        row = self.program.p
        with m.Switch(row.layer):
            for n, cells in enumerate(self.cells):
                stage = m.submodules[cells.node]
                m.d.comb += [
                    stage.program.p.macro.eq(row.macro),
                    stage.program.p.row.eq(row.row),
                    stage.program.p.levels.eq(row.levels),
                ]
                with m.Case(n):
                    m.d.comb += [
                        stage.program.valid.eq(self.program.valid),
                        self.program.ready.eq(stage.program.ready),
                        self.program_failed.eq(stage.program_failed),
                        self.program_pulse.eq(stage.program_pulse),
                    ]

    def _entry(self, m: Module, loaded: dict[str, Signal]):
        """The input stream, which waits until every engine has its weights, as ``loaded`` says."""
        for stage in self.mapping.stages:
            if stage.engine is not None and self.mapping.engine(stage.engine).loads:
                loaded[stage.node] = Signal(name=f"loaded_{stage.node}")
        entry, go = self.stream(self.network.input.name).create(path=("entry",)), Signal()
        m.d.comb += [
            go.eq(Cat(loaded.values()).all()),
            entry.p.eq(self.i.p),
            entry.valid.eq(self.i.valid & go),
            self.i.ready.eq(entry.ready & go),
        ]
        return entry

    def _fork(self, m: Module, edge: str, stream):
        """The stream of an edge for each of its readers: by node and number of the input.

        The network's output is read as input 0 of its own name.
        """
        readers = [
            (node.name, number)
            for node in self.network.nodes
            for number, source in enumerate(node.inputs)
            if source == edge
        ]
        if edge == self.network.output.name:
            readers.append((edge, 0))
        if len(readers) == 1:
            return {readers[0]: stream}
        fork = Fork(*self._beat(edge), len(readers))
        m.submodules[f"{edge}_fork"] = fork
        connect(m, stream, fork.i)
        return dict(zip(readers, fork.o, strict=True))

    def _wait(self, m: Module, spec: FifoMapping, stream):
        """The stream behind its FIFO."""
        edge = self.network[spec.node].inputs[spec.input]
        fifo = Fifo(*self._beat(edge), spec.depth)
        m.submodules[f"{spec.node}_fifo_{spec.input}"] = fifo
        connect(m, stream, fifo.i)
        m.d.comb += getattr(self, fill_port(spec)).eq(fifo.level)
        return fifo.o
