"""A bank of macros: in lock step, on word lines that several share."""

from amaranth.hdl import Cat, Const, Instance, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hdl.lib.rom import address_bits
from hdl.pim.macro import SOURCE, Macro, connections, named_files, parameters, ports
from hdl.target import place
from model.ir.macro import WORD, MacroSpec


class MacroBank(wiring.Component):
    """Macros that are evaluated at once and written one by one.

    The behavioural bodies are one module, ``gyre_macro.v``, which goes over them in a loop: that
    builds as fast as one macro. Hard macros are placed one by one.

    Parameters
    ----------
    spec : MacroSpec
        Each of the macros.
    tiles : tuple of int
        For each macro, which set of word lines is its own.
    body : str
        Name of a hard macro: see Macro.
    file, stuck : str
        .hex files of all macros, one after another, as Macro has them: the levels of stuck cells,
        whose rows still are to be programmed, and which cells those are. None: no cell is stuck.

    Members
    -------
    en, start, valid, phase :
        See Macro.
    x : In(a bit for each word line of each set)
    o : Out
        Results, those of a macro ``stride`` bits behind those of the one before.
    number : In
        The macro that is written.
    load, write, verify, row, levels, match, found, seed :
        See Macro; ``seed`` is that of macro 0, the others have those that follow.
    blank, unprogrammed, worn, clash : Out(1)
        Of any macro: see Macro.
    """

    def __init__(
        self,
        spec: MacroSpec,
        tiles: tuple[int, ...],
        body: str = "",
        file: str = "",
        stuck: str = "",
    ) -> None:
        self.spec, self.tiles, self.body = spec, tiles, body
        self.file, self.stuck = file, stuck
        results = (len(tiles) - 1) * stride(spec) + spec.converters * spec.result_lane
        super().__init__(
            ports(spec, x=(max(tiles) + 1) * spec.rows, o=results)
            | {"number": In(address_bits(len(tiles)))}
        )

    def elaborate(self, platform):
        m = Module()
        if self.body:
            self._hard(m, platform)
            return m
        platform.include(SOURCE)
        bits = address_bits(max(self.tiles) + 1)
        places = sum(tile << n * bits for n, tile in enumerate(self.tiles))
        m.submodules.bodies = Instance(
            "gyre_macro",
            **parameters(self.spec),
            p_MACROS=len(self.tiles),
            p_NUMBER_BITS=len(self.number),
            p_TILES=max(self.tiles) + 1,
            p_TILE_BITS=bits,
            p_TILE_OF=Const(places, bits * len(self.tiles)),
            p_O_STRIDE=stride(self.spec),
            **named_files(self.file, self.stuck),
            **connections(self),
        )
        return m

    def _hard(self, m: Module, platform) -> None:
        spec, matches, results = self.spec, [], []
        found: dict[str, list] = {name: [] for name in ("blank", "unprogrammed", "worn", "clash")}
        for n, tile in enumerate(self.tiles):
            name = f"macro_{self.body}"
            macro = place(m, platform, f"macro_{n}", name, Macro, spec, "", "", self.body)
            mine = self.number == n
            m.d.comb += [
                macro.en.eq(self.en),
                macro.start.eq(self.start),
                macro.x.eq(self.x[tile * spec.rows : (tile + 1) * spec.rows]),
                macro.row.eq(self.row),
                macro.levels.as_value().eq(self.levels.as_value()),
                macro.seed.eq(self.seed + n),
            ]
            m.d.comb += [
                getattr(macro, strobe).eq(getattr(self, strobe) & mine)
                for strobe in ("load", "write", "verify")
            ]
            matches.append(Mux(mine, macro.match, 0))
            for name, all_of in found.items():
                all_of.append(getattr(macro, name))
            with m.If(mine):
                m.d.comb += self.found.as_value().eq(macro.found.as_value())
            bits = macro.o.as_value()
            results += [bits, Const(0, stride(spec) - len(bits))]
        m.d.comb += [
            self.valid.eq(macro.valid),
            self.phase.eq(macro.phase),
            self.o.eq(Cat(results)),
            self.match.eq(Cat(matches).any()),
        ]
        m.d.comb += [getattr(self, name).eq(Cat(all_of).any()) for name, all_of in found.items()]


def stride(spec: MacroSpec) -> int:
    """Bits from a macro's results to the next one's: whole words."""
    if spec.direct:
        return WORD * spec.count_lane * -(-spec.columns // WORD)
    return WORD * -(-spec.converters * spec.result_lane // WORD)
