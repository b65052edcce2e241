"""What a layer on PIM macros does and takes, by formula: tiles, cycles, events, parts.

A macro has R word lines and C columns of cells. A layer's matrix [outputs, inputs] stands in it
transposed: inputs on word lines, outputs on columns, each weight as ``slices`` bit slices. A *line*
is what one conversion reads: one column, or two of a pair of positive and negative cells. What
exceeds a macro is cut into tiles, whose results are added digitally.

In one evaluation, one bit of the activations stands on the word lines; each line is converted, and
its code shifted and added. A converter serves ``columns_per_converter`` lines in turn, from one
pulse of the word lines, whose result is held. Of more tiles than macros, several stand behind one
set of converters, and follow each other.
"""

from dataclasses import dataclass

from model.ir.errors import BadInput
from model.ir.spec import check_int
from sim.energy import Events, Parts


@dataclass(frozen=True)
class MacroShape:
    """A macro.

    Parameters
    ----------
    rows, columns : int
        Word lines, and columns of cells.
    columns_per_converter : int
        Lines that share a converter.
    cell_bits : int
        Bits of a cell's level.
    cells : int
        Columns of a line: 1, or 2 for pairs.
    reference : int
        1 for a further column of cells, whose count is taken from that of every other; else 0.
    adc_bits : int or None
        Bits of the converters; None for as many as the tile's largest count has, which is exact.
    """

    rows: int
    columns: int
    columns_per_converter: int = 1
    cell_bits: int = 1
    cells: int = 1
    reference: int = 0
    adc_bits: int | None = None

    def __post_init__(self) -> None:
        check_int("rows", self.rows, 1)
        check_int("reference", self.reference, 0, 1)
        check_int("cells", self.cells, 1, 2)
        check_int("columns", self.columns, self.cells)
        check_int("columns_per_converter", self.columns_per_converter, 1, self.lines)
        check_int("cell_bits", self.cell_bits, 1, 8)
        if self.adc_bits is not None:
            check_int("adc_bits", self.adc_bits, 1)

    @property
    def lines(self) -> int:
        """Lines that a tile can hold."""
        return self.columns // self.cells

    def converter_bits(self, rows: int) -> int:
        """Bits of a conversion of a tile of so many word lines; pairs have a sign besides."""
        if self.adc_bits is not None:
            return self.adc_bits
        return (rows * (2**self.cell_bits - 1)).bit_length() + self.cells - 1

    def slices(self, weight_bits: int) -> int:
        """Lines of a weight; in pairs the sign takes no slice."""
        magnitude = weight_bits - 1 if self.cells == 2 else weight_bits
        return -(-max(magnitude, 1) // self.cell_bits)


@dataclass(frozen=True)
class Tile:
    """What a macro holds of a layer: so many word lines, and lines."""

    rows: int
    lines: int


@dataclass(frozen=True)
class PlacedLayer:
    """A layer on macros.

    Parameters
    ----------
    name : str
        Its name.
    macro : MacroShape
        The macro that it is cut for.
    vectors : int
        Matrix-vector products a frame.
    inputs, outputs : int
        Activations that enter and leave one of them.
    macs : int
        Useful multiply-accumulates a frame, of the uncompressed layer.
    activation_bits, weight_bits : int
        Widths.
    row_tiles : int
        Tiles that are added up for an output, at the most.
    tiles : tuple of Tile
        Its tiles.
    rotations : int
        k for circulant blocks in the circulant flow, which evaluates each tile k times a vector.
    macros : int
        Macros that work at once; 0 for one per tile.
    copies : int
        Copies of all of it, which share the vectors.
    """

    name: str
    macro: MacroShape
    vectors: int
    inputs: int
    outputs: int
    macs: int
    activation_bits: int
    weight_bits: int
    row_tiles: int
    tiles: tuple[Tile, ...]
    rotations: int = 1
    macros: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        for name in ("vectors", "inputs", "outputs", "activation_bits", "weight_bits", "copies"):
            check_int(name, getattr(self, name), 1)
        if not self.tiles:
            raise BadInput(self.name, "no tile", "at least one", "keep a column of the layer")
        for tile in self.tiles:
            if tile.rows > self.macro.rows or tile.lines > self.macro.lines:
                raise BadInput(
                    self.name,
                    f"a tile of {tile.rows} word lines and {tile.lines} lines",
                    f"at most {self.macro.rows} and {self.macro.lines}",
                    "cut the layer for this macro",
                )

    @property
    def working(self) -> int:
        """Macros of a copy that work at once."""
        return min(self.macros, len(self.tiles)) if self.macros else len(self.tiles)

    @property
    def converters(self) -> int:
        """Converters of all copies."""
        per_macro = -(-self.macro.lines // self.macro.columns_per_converter)
        return self.copies * self.working * per_macro

    @property
    def adder_bits(self) -> int:
        """Width of the shift-adds: a code, shifted by activation bit and slice, over row tiles."""
        code = max(self.macro.converter_bits(tile.rows) for tile in self.tiles)
        carry = (self.row_tiles - 1).bit_length()
        return code + self.activation_bits + self.weight_bits + carry

    @property
    def passes(self) -> int:
        """``columns per converter × ceil(tiles / macros)``: cycles for a bit of activations."""
        return self.macro.columns_per_converter * -(-len(self.tiles) // self.working)

    @property
    def cycles(self) -> int:
        """``ceil(vectors / copies) × activation bits × k × passes``: cycles a frame."""
        vectors = -(-self.vectors // self.copies)
        return vectors * self.activation_bits * self.rotations * self.passes


def cut(rows: int, lines: int, macro: MacroShape, unit: int = 1) -> list[Tile]:
    """Tiles of a dense matrix of so many word lines and lines, row tile by row tile."""
    heights = [min(macro.rows, rows - first) for first in range(0, rows, macro.rows)]
    return [tile for height in heights for tile in pieces(height, lines, macro, unit)]


def pieces(rows: int, lines: int, macro: MacroShape, unit: int = 1) -> list[Tile]:
    """Tiles of one row tile: full ones, then what remains.

    ``unit`` lines, the slices of a weight, stay together; raises BadInput if a macro has fewer.
    """
    most = macro.lines // unit * unit
    if not most:
        raise BadInput(
            "macro", f"{macro.lines} lines", f"at least the {unit} of a weight", "use a wider macro"
        )
    full, rest = divmod(lines, most)
    return [Tile(rows, most)] * full + ([Tile(rows, rest)] if rest else [])


def place(
    name: str,
    inputs: int,
    outputs: int,
    macro: MacroShape,
    *,
    vectors: int = 1,
    activation_bits: int = 8,
    weight_bits: int = 8,
    k: int = 1,
    positions: int = 1,
) -> PlacedLayer:
    """A layer whose matrix is dense, or of circulant blocks of size k.

    A block stores its defining vector in k word lines of one line per slice, so a matrix takes
    ``ceil(outputs / k)`` lines per slice. Blocks stay within one of the ``positions`` of a kernel:
    each position's channels are padded to a multiple of k, and so are the outputs.
    """
    rows = positions * -(-(inputs // positions) // k) * k
    slices = macro.slices(weight_bits)
    return PlacedLayer(
        name,
        macro,
        vectors=vectors,
        inputs=inputs,
        outputs=outputs,
        macs=vectors * inputs * outputs,
        activation_bits=activation_bits,
        weight_bits=weight_bits,
        row_tiles=-(-rows // macro.rows),
        tiles=tuple(cut(rows, -(-outputs // k) * slices, macro, slices)),
        rotations=k,
    )


def count_events(layer: PlacedLayer, *, memory_bytes: int = 8192, activity: float = 1.0) -> Events:
    """Events of a frame.

    With E = vectors × activation bits × k evaluations of each tile:

    - word lines: E × rows × ``activity``; cells read: that × columns, references included;
    - conversions: E × lines; as many shift-adds, each into a register;
    - weights of 1 bit in single cells are -1 and 1: the inputs of each vector are added up once;
    - memory: the inputs of each vector are read once for all tiles, its outputs written once;
    - registers: the inputs of each vector, once for each of k rotations.

    Parameters
    ----------
    memory_bytes : int
        The buffer of activations.
    activity : float
        Share of the activation bits that are 1; 1.0 is the upper bound.

    Raises BadInput for an activity out of 0 to 1.
    """
    if not 0 <= activity <= 1:
        raise BadInput("activity", activity, "a share, 0 to 1", "correct it")
    macro, width = layer.macro, layer.adder_bits
    evaluations = layer.vectors * layer.activation_bits * layer.rotations
    word_lines = reads = 0
    conversions: dict[int, int] = {}
    for tile in layer.tiles:
        word_lines += tile.rows
        reads += tile.rows * (tile.lines * macro.cells + macro.reference)
        bits = macro.converter_bits(tile.rows)
        conversions[bits] = conversions.get(bits, 0) + evaluations * tile.lines
    entered = layer.vectors * layer.inputs * layer.activation_bits
    added = sum(conversions.values())
    if layer.weight_bits == macro.cells == 1:
        added += layer.vectors * layer.inputs
    return Events(
        word_lines=round(evaluations * word_lines * activity),
        cell_reads=round(evaluations * reads * activity),
        conversions=conversions,
        adds={width: added},
        register_bits=entered * layer.rotations + added * width,
        memory_reads={memory_bytes: entered},
        memory_writes={memory_bytes: layer.vectors * layer.outputs * layer.activation_bits},
    )


def count_parts(layer: PlacedLayer, *, memory_bytes: int = 0) -> Parts:
    """What is built for a layer, with a buffer of activations of ``memory_bytes``.

    Every tile takes the cells and word-line drivers of a whole macro. Converters, each with a
    shift-adder and its register, are those of the macros that work at once. The circulant flow has
    registers for the activations that rotate besides.
    """
    macro, tiles, width = layer.macro, layer.copies * len(layer.tiles), layer.adder_bits
    bits = max(macro.converter_bits(tile.rows) for tile in layer.tiles)
    turning = layer.copies * layer.inputs * layer.activation_bits if layer.rotations > 1 else 0
    return Parts(
        cells=tiles * macro.rows * (macro.columns + macro.reference),
        word_lines=tiles * macro.rows,
        converters={bits: layer.converters},
        adders={width: layer.converters},
        register_bits=layer.converters * width + turning,
        memory_bits=8 * memory_bytes,
    )


def programming(layer: PlacedLayer) -> Events:
    """Events of writing the layer's cells once without a retry, references included."""
    macro, copies = layer.macro, layer.copies
    cells = sum(t.rows * (t.lines * macro.cells + macro.reference) for t in layer.tiles)
    rows = sum(tile.rows for tile in layer.tiles)
    return Events(word_lines=rows * copies, cell_writes=cells * copies)
