"""The sliding window: a frame in, pixel by pixel; the patches of its positions out."""

from amaranth.hdl import Array, Const, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.rom import address_bits
from hdl.lib.stream import beat_stream, transfer
from model.ir.window import Windowed
from model.ir.window_buffer import WindowBuffer


class Window(wiring.Component):
    """The patches of a frame that a kernel looks at, from a buffer of ``kernel_rows`` rows.

    ::

        i -> writer -> [ring of rows] -> [rotate, pad] -> o
                           ^ reader

    The writer fills the ring row after row, frame after frame; rests that no window covers are
    taken and dropped. The reader goes from position to position. Both hold their distance in rows
    and their place in a row, and wait for each other by these alone: the reader for a word that has
    not come, the writer for one that is still needed. Padding is code 0 and stored nowhere.

    Cycles, latency and memory: ``WindowBuffer``. One beat a cycle on either side.

    Parameters
    ----------
    layer : Windowed
        The frame, the kernel, its stride and its padding.
    shape : Shape
        Shape of a code.
    lanes, banks, order, ahead :
        See WindowBuffer.

    Members
    -------
    i : In(beat stream)
        ``lanes`` channels of a pixel; every pixel begins with a new beat.
    o : Out(beat stream)
        ``banks · lanes`` codes: lane ``k · lanes + n`` is lane ``n`` of kernel row ``k``.
    """

    def __init__(
        self,
        layer: Windowed,
        shape: Shape,
        *,
        lanes: int,
        banks: int,
        order: str = "vector",
        ahead: int = 0,
    ) -> None:
        self.window = WindowBuffer(layer, lanes, banks, order, ahead)
        self.shape = Shape.cast(shape)
        super().__init__(
            {
                "i": In(beat_stream(shape, lanes)),
                "o": Out(beat_stream(shape, self.window.out_lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self.window.layer.area == 1:
            self._pass(m)
        else:
            self._slide(m)
        return m

    def _pass(self, m: Module) -> None:
        """A 1 × 1 kernel: pixels pass, but for those that the stride skips."""
        window, layer = self.window, self.window.layer
        keep = Const(1)
        opens, closes = Const(1), Const(1)  # this beat is the first, the last that is kept
        go = transfer(self.i)
        if window.groups > 1:
            group = Signal(address_bits(window.groups))
            end = group == window.groups - 1
            with m.If(go):
                m.d.sync += group.eq(Mux(end, 0, group + 1))
            opens, closes, go = opens & (group == 0), closes & end, go & end
        for name, size, last in (
            ("column", layer.columns, window.left_column),
            ("row", layer.rows, window.top_row),
        ):
            if size == 1:
                continue
            place = Signal(address_bits(size), name=name)
            end = place == size - 1
            with m.If(go):
                m.d.sync += place.eq(Mux(end, 0, place + 1))
            opens, closes = opens & (place == 0), closes & (place == last)
            if layer.stride > 1:
                phase = Signal(address_bits(layer.stride), name=f"{name}_phase")
                with m.If(go):
                    m.d.sync += phase.eq(Mux(end | (phase == layer.stride - 1), 0, phase + 1))
                keep = keep & (phase == 0)
            go = go & end
        m.d.comb += [
            self.o.valid.eq(self.i.valid & keep),
            self.i.ready.eq(self.o.ready | ~keep),
            self.o.p.codes.eq(self.i.p.codes),
            self.o.p.first.eq(opens),
            self.o.p.last.eq(closes),
        ]

    def _slide(self, m: Module) -> None:
        """A larger kernel: the writer, the ring of rows, the reader."""
        window, layer = self.window, self.window.layer
        kernel_rows, stride, padding = layer.kernel_rows, layer.stride, layer.padding
        groups, line, slots, lanes = window.groups, window.line, window.slots, window.lanes
        single = window.banks == 1
        word_bits = lanes * self.shape.width

        # The distance: rows from the first of the reader's windows (which may lie in the padding)
        # to the writer's. It is `ring` rows at most before words must be given free.
        distance = Signal(range(slots + padding + kernel_rows + 1), init=padding)
        head = Signal(range(line + 1))  # the writer's word in its row
        freed = Signal(range(line + 1))  # words of the rows below that the reader needs no more
        row_written, row_read = Signal(), Signal()

        # The reader's place. `top` and `left` are where the window begins, `address` the word that
        # is read: modulo a power of two, so that it is right wherever it is not padding.
        bits = address_bits(line)
        top = Signal(signed(1 + max(padding, window.top_row + 1).bit_length()), init=-padding)
        left = Signal(signed(1 + max(padding, window.left_column + 1).bit_length()), init=-padding)
        column = Signal(  # where there is no padding nothing looks at it
            signed(1 + (window.left_column + layer.kernel_columns + padding).bit_length()),
            init=-padding,
        )

        def moved(place) -> list:
            return [column.eq(place)] if padding else []

        begin = -padding * groups % (1 << bits)
        origin, address = Signal(bits, init=begin), Signal(bits, init=begin)
        # The slot of the window's first row; for padding above a frame the ring goes back.
        slot = Signal(address_bits(slots), init=-padding % slots)
        kernel_column = Signal(address_bits(layer.kernel_columns))
        group, kernel_row = Signal(address_bits(groups)), Signal(address_bits(kernel_rows))
        row_slot = Signal.like(slot)  # of the kernel row that is read, where it is one at a time

        # Which rows of the window are real: from `above` on, up to `lowest`.
        above, lowest = Signal(address_bits(kernel_rows)), Signal(address_bits(kernel_rows))
        m.d.comb += lowest.eq(kernel_rows - 1)
        if padding:
            m.d.comb += above.eq(Mux(top < 0, -top, 0))
        bottom = window.top_row + kernel_rows > window.used_rows  # some windows reach below
        if bottom:
            with m.If(top > window.used_rows - kernel_rows):
                m.d.comb += lowest.eq(window.used_rows - 1 - top)
        final_row, final_column = Signal(), Signal()
        released = Signal(range(kernel_rows + stride + 1))  # rows that this pass gives free
        wrap = (
            window.used_rows - padding - window.top_row
        )  # from the last windows to the next frame
        onward = Signal(range(min(wrap, 0), max(wrap, stride) + 1))
        m.d.comb += [
            final_row.eq(top == window.top_row),
            final_column.eq(left == window.left_column),
            released.eq(Mux(final_row, window.used_rows - window.top_row, stride)),
            onward.eq(Mux(final_row, wrap, stride)),
        ]

        # May the beat be read? May a word be written?
        en, there, issue, room = Signal(), Signal(), Signal(), Signal()
        real, look = Signal(), Signal(address_bits(kernel_rows))
        inside = (column >= 0) & (column < window.used_columns) if padding else Const(1)
        if single:
            covered = inside
            if padding:
                covered = covered & (kernel_row >= above)
            if bottom:
                covered = covered & (kernel_row <= lowest)
            m.d.comb += [real.eq(covered), look.eq(kernel_row)]
        else:
            m.d.comb += [real.eq(inside), look.eq(lowest)]
        # Padding is there as soon as the frame has begun: nothing leaves before something came.
        begun = (top != -padding) | (distance > padding) | (head != 0)
        come = (distance > look) | ((distance == look) & (head > address))
        m.d.comb += [
            there.eq(Mux(real, come, begun)),
            issue.eq(en & there),
            room.eq((distance < slots + above) | ((distance < slots + released) & (head < freed))),
        ]

        # The writer.
        write = Signal()
        target = Signal(address_bits(slots))
        rests = sorted({window.drops(row) for row in range(window.used_rows)})
        if rests[-1]:
            drop = Signal(range(rests[-1] + 1))
            dropping = drop != 0
            with m.If(self.i.valid & dropping):
                m.d.sync += drop.eq(drop - 1)
            final = Const(0)
            if len(rests) > 1:
                row = Signal(address_bits(window.used_rows))
                final = row == window.used_rows - 1
                with m.If(row_written):
                    m.d.sync += row.eq(Mux(final, 0, row + 1))
            with m.If(row_written):
                m.d.sync += drop.eq(Mux(final, rests[-1], rests[0]))
        else:
            dropping = Const(0)
        m.d.comb += [
            self.i.ready.eq(room | dropping),
            write.eq(self.i.valid & room & ~dropping),
            row_written.eq(write & (head == line - 1)),
        ]
        with m.If(write):
            m.d.sync += head.eq(head + 1)
        with m.If(row_written):
            m.d.sync += [head.eq(0), target.eq(self._around(target, 1))]
        m.d.sync += distance.eq(distance + row_written - Mux(row_read, onward, 0))

        # The memories: one of all rows, or one a row.
        if single:
            starts = Array(Const(n * line, range(slots * line)) for n in range(slots))
            m.submodules.rows = rows = memory.Memory(
                shape=unsigned(word_bits), depth=max(slots * line, 2), init=[]
            )
            port, reads = rows.write_port(), [rows.read_port()]
            m.d.comb += [
                port.en.eq(write),
                port.addr.eq(starts[target] + head),
                port.data.eq(self.i.p.codes.as_value()),
                reads[0].addr.eq(starts[row_slot] + address),
            ]
        else:
            reads = []
            for n in range(slots):
                m.submodules[f"row_{n}"] = row_memory = memory.Memory(
                    shape=unsigned(word_bits), depth=max(line, 2), init=[]
                )
                port, read = row_memory.write_port(), row_memory.read_port()
                m.d.comb += [
                    port.en.eq(write & (target == n)),
                    port.addr.eq(head),
                    port.data.eq(self.i.p.codes.as_value()),
                    read.addr.eq(address),
                ]
                reads.append(read)
        m.d.comb += [read.en.eq(issue) for read in reads]

        # From beat to beat. `line_end`: the kernel row (of this group) is through.
        ends = {
            "group": group == groups - 1,
            "column": kernel_column == layer.kernel_columns - 1,
            "row": kernel_row == kernel_rows - 1 if single else Const(1),
        }
        position_end, line_end = Signal(), Signal()
        m.d.comb += [
            position_end.eq(issue & ends["group"] & ends["column"] & ends["row"]),
            row_read.eq(position_end & final_column),
        ]
        with m.If(issue):
            if window.order == "vector":
                m.d.comb += line_end.eq(ends["group"] & ends["column"])
                m.d.sync += [group.eq(Mux(ends["group"], 0, group + 1)), address.eq(address + 1)]
                with m.If(ends["group"]):
                    m.d.sync += [*moved(column + 1), kernel_column.eq(kernel_column + 1)]
                with m.If(line_end):
                    m.d.sync += [*moved(left), kernel_column.eq(0), address.eq(origin)]
            else:
                m.d.comb += line_end.eq(ends["column"])
                m.d.sync += [
                    *moved(column + 1),
                    kernel_column.eq(kernel_column + 1),
                    address.eq(address + groups),
                ]
                with m.If(line_end):
                    m.d.sync += [*moved(left), kernel_column.eq(0), address.eq(origin + group)]
                with m.If(line_end & ends["row"]):
                    m.d.sync += [
                        group.eq(Mux(ends["group"], 0, group + 1)),
                        address.eq(origin + group + 1),
                    ]
            if single:
                with m.If(line_end):
                    m.d.sync += [
                        kernel_row.eq(Mux(ends["row"], 0, kernel_row + 1)),
                        row_slot.eq(Mux(ends["row"], slot, self._around(row_slot, 1))),
                    ]
            gives = real & ((kernel_column < stride) | final_column)
            if single:
                gives = gives & (kernel_row == released - 1)
            if window.order == "channel":
                gives = gives & ends["group"]
            with m.If(gives):
                m.d.sync += freed.eq(address + 1)
        with m.If(position_end):
            m.d.sync += [
                left.eq(left + stride),
                *moved(left + stride),
                origin.eq(origin + stride * groups),
                address.eq(origin + stride * groups),
            ]
        next_slot = Mux(final_row, self._around(slot, wrap), self._around(slot, stride))
        with m.If(row_read):
            m.d.sync += [
                left.eq(-padding),
                *moved(-padding),
                origin.eq(begin),
                address.eq(begin),
                freed.eq(0),
                top.eq(Mux(final_row, -padding, top + stride)),
                slot.eq(next_slot),
                row_slot.eq(next_slot),
            ]

        # What was read: kernel rows in their order, padding as 0, in the beat's own registers.
        valid = Signal()
        shows = Signal(window.banks, reset_less=True)  # kernel rows that are no padding
        turn = Signal(address_bits(slots), reset_less=True)
        first, last = Signal(reset_less=True), Signal(reset_less=True)
        fresh = (group == 0) & (kernel_column == 0) & (kernel_row == 0)
        opens = fresh & (top == -padding) & (left == -padding)
        with m.If(en):
            m.d.sync += [
                valid.eq(there),
                turn.eq(slot),
                first.eq(opens),
                last.eq(row_read & final_row),
            ]
            if padding and single:
                m.d.sync += shows.eq(real)
            elif padding:
                for n in range(kernel_rows):
                    show = inside
                    if n < padding:
                        show = show & (top >= -n)
                    if window.top_row + n >= window.used_rows:
                        show = show & (top < window.used_rows - n)
                    m.d.sync += shows[n].eq(show)
        ordered = Signal(data.ArrayLayout(word_bits, window.banks))
        if single:
            m.d.comb += ordered[0].eq(reads[0].data)
        else:
            with m.Switch(turn):
                for s in range(slots):
                    with m.Case(s):
                        for n in range(kernel_rows):
                            m.d.comb += ordered[n].eq(reads[(s + n) % slots].data)
        out_valid = Signal()
        beat = Signal.like(self.o.p, reset_less=True)
        with m.If(en):
            m.d.sync += [out_valid.eq(valid), beat.first.eq(first), beat.last.eq(last)]
            for n in range(window.banks):
                codes = Mux(shows[n], ordered[n], 0) if padding else ordered[n]
                m.d.sync += beat.codes.as_value().word_select(n, word_bits).eq(codes)
        m.d.comb += [
            en.eq(~out_valid | self.o.ready),
            self.o.valid.eq(out_valid),
            self.o.p.eq(beat),
        ]

    def _around(self, slot: Signal, step: int):
        """The slot ``step`` rows on in the ring."""
        slots = self.window.slots
        step %= slots
        return Mux(slot >= slots - step, slot - (slots - step), slot + step) if step else slot
