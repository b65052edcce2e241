"""The sequencers of a PE array: which words a step reads, and where a row fold ends."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.rom import Rom, address_bits


def _members(words: int, steps: int) -> dict:
    return {
        "go": In(1),
        "index": Out(address_bits(words)),
        "word": Out(address_bits(steps)),
        "first": Out(1),
        "last": Out(1),
        "used": Out(1),
    }


class DenseSequencer(wiring.Component):
    """All tiles in order: ``folds`` row folds of ``words`` steps.

    Parameters
    ----------
    folds, words : int
        Row folds, and activation words of a vector.

    Members
    -------
    go : In(1)
        Perform a step in this cycle.
    index : Out
        The activation word that the step reads.
    word : Out
        The weight word that it reads.
    first, last : Out(1)
        The step is the first, the last of its row fold.
    used : Out(1)
        A step is performed, and it is the last one of its vectors.
    """

    def __init__(self, folds: int, words: int) -> None:
        self.folds, self.words = folds, words
        super().__init__(_members(words, folds * words))

    def elaborate(self, platform):
        m = Module()
        fold = Signal(address_bits(self.folds))
        m.d.comb += [
            self.first.eq(self.index == 0),
            self.last.eq(self.index == self.words - 1),
            self.used.eq(self.go & self.last & (fold == self.folds - 1)),
        ]
        with m.If(self.go):
            m.d.sync += [self.index.eq(self.index + 1), self.word.eq(self.word + 1)]
            with m.If(self.last):
                m.d.sync += [self.index.eq(0), fold.eq(fold + 1)]
        with m.If(self.used):
            m.d.sync += [fold.eq(0), self.word.eq(0)]
        return m


class TileSequencer(wiring.Component):
    """The tiles that are stored, in the order of an index memory.

    The index memory is read ahead, so that a step costs no cycle more than in an array without one:
    two steps ahead, into a register, as a block of memory is too slow to feed what comes after.
    After a reset the first step can be performed in the third cycle, which is not before a vector
    of several words can be loaded. Where a vector has one word, or in a lean array, there is no
    such register: it is read one step ahead, and the first step can be performed in the second
    cycle.

    Memory: ``tiles`` words: the number of the activation word, and below it a mark that ends a row
    fold; no mark if all row folds have the same number of tiles, for then they are counted.

    Parameters
    ----------
    words, tiles : int
        Activation words of a vector, and tiles.
    index_file : str
        .hex file of the index memory.
    per_fold : int or None
        Tiles of every row fold; None if they differ.
    lean : bool
        No register behind the index memory.

    Members: as of :class:`DenseSequencer`.
    """

    def __init__(
        self,
        words: int,
        tiles: int,
        index_file: str,
        per_fold: int | None = None,
        lean: bool = False,
    ) -> None:
        self.words, self.tiles, self.index_file = words, tiles, index_file
        self.per_fold, self.lean = per_fold, lean
        super().__init__(_members(words, tiles))

    def elaborate(self, platform):
        m = Module()
        marks = self.per_fold is None
        m.submodules.entries = entries = Rom(marks + len(self.index), self.tiles, self.index_file)
        following, begun, read = Signal.like(self.word), Signal(), Signal()
        entry = entries.data
        m.d.sync += read.eq(1)
        m.d.comb += following.eq(self._after(self.word))
        if self.lean or self.words == 1:
            m.d.comb += [
                entries.en.eq(self.go | ~read),
                entries.addr.eq(Mux(self.go, following, self.word)),
            ]
        else:
            entry, ahead = Signal.like(entries.data, reset_less=True), Signal.like(self.word)
            begins = Signal()  # the first entry leaves the memory, the second one is read
            m.d.sync += begins.eq(~read)
            m.d.comb += [entries.en.eq(self.go | ~read | begins), entries.addr.eq(ahead)]
            with m.If(entries.en):
                m.d.sync += [ahead.eq(self._after(ahead)), entry.eq(entries.data)]
        if marks:
            m.d.comb += [self.last.eq(entry[0]), self.first.eq(~begun)]
            with m.If(self.go):
                m.d.sync += begun.eq(~self.last)
        else:
            step = Signal(address_bits(self.per_fold))
            m.d.comb += [self.last.eq(step == self.per_fold - 1), self.first.eq(step == 0)]
            with m.If(self.go):
                m.d.sync += step.eq(Mux(self.last, 0, step + 1))
        m.d.comb += [
            self.index.eq(entry[int(marks) :]),
            self.used.eq(self.go & (self.word == self.tiles - 1)),
        ]
        with m.If(self.go):
            m.d.sync += self.word.eq(following)
        return m

    def _after(self, word: Value) -> Value:
        return Mux(word == self.tiles - 1, 0, word + 1)
