"""The table of seeded faults. Each is one textual edit, and the probe that must notice it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One seeded fault.

    Parameters
    ----------
    what : str
        The fault in a few words, unique in the table.
    file : str
        The file it is planted in, relative to the project.
    old, new : str
        The text that must occur there exactly once, and what takes its place.
    probe : str
        The module of this folder that must report a mismatch.
    """

    what: str
    file: str
    old: str
    new: str
    probe: str


_REQUANTIZE = "model/golden/requantize.py"
_NUMERICS = "model/ir/numerics.py"

GOLDEN = [
    Mutation(
        "a half rounds down",
        "model/ir/requantize.py",
        "return 1 << (shift - 1) if shift else 0",
        "return (1 << (shift - 1)) - 1 if shift else 0",
        "probe_golden",
    ),
    Mutation(
        "the shift is one too far",
        _REQUANTIZE,
        "(total >> shift)",
        "(total >> shift + 1)",
        "probe_golden",
    ),
    Mutation(
        "the shift goes left",
        _REQUANTIZE,
        "(total >> shift)",
        "(total << shift)",
        "probe_golden",
    ),
    Mutation(
        "the shift truncates towards zero",
        _REQUANTIZE,
        "(total >> shift)",
        '(torch.div(total, 1 << shift, rounding_mode="trunc"))',
        "probe_golden",
    ),
    Mutation(
        "the clamp spares one code above",
        _REQUANTIZE,
        "clamp_(span.low, span.high)",
        "clamp_(span.low, span.high + 1)",
        "probe_golden",
    ),
    Mutation(
        "the clamp loses the lowest code",
        _REQUANTIZE,
        "clamp_(span.low, span.high)",
        "clamp_(span.low + 1, span.high)",
        "probe_golden",
    ),
    Mutation(
        "the sign of m is lost",
        _REQUANTIZE,
        'acc * tensors["m"]',
        'acc * tensors["m"].abs()',
        "probe_golden",
    ),
    Mutation(
        "the bias belongs to the next channel",
        _REQUANTIZE,
        'total + (tensors["b"] +',
        'total + (tensors["b"].roll(1) +',
        "probe_golden",
    ),
    Mutation(
        "the selection is off by one",
        "model/golden/select.py",
        'node.tensors["indices"].copy()',
        'node.tensors["indices"] - 1',
        "probe_golden",
    ),
    Mutation(
        "two entries of the codebook are swapped",
        _NUMERICS,
        "np.asarray(self.levels, dtype=np.int64)[codes]",
        "np.asarray(self.levels, dtype=np.int64)[codes ^ (codes < 2)]",
        "probe_golden",
    ),
    Mutation(
        "bipolar codes are the other way round",
        _NUMERICS,
        "return 2 * codes - 1",
        "return 1 - 2 * codes",
        "probe_golden",
    ),
    Mutation(
        "an accumulator misses a term of its range",
        _NUMERICS,
        "max(0, self.high) * terms",
        "max(0, self.high) * (terms - 1)",
        "probe_golden",
    ),
    Mutation(
        "the product runs in single precision",
        "model/golden/numerics.py",
        "torch.float64 if",
        "torch.float32 if",
        "probe_golden",
    ),
    Mutation(
        "an argmax tie goes to the highest index",
        "model/golden/graph.py",
        "outputs.flatten(1).argmax(dim=1)",
        "outputs.shape[1] - 1 - outputs.flatten(1).flip(1).argmax(dim=1)",
        "probe_golden",
    ),
    Mutation(
        "a circulant block turns the other way",
        "model/ir/block_circulant.py",
        "(steps[:, None] - steps) % self.k",
        "(steps - steps[:, None]) % self.k",
        "probe_golden",
    ),
    Mutation(
        "kept weights are read backwards",
        "model/ir/block_sparse.py",
        'format.decode(tensors["weight"])]',
        'format.decode(tensors["weight"])[::-1]]',
        "probe_golden",
    ),
    Mutation(
        "the kernel's rows and columns are exchanged",
        "model/golden/window.py",
        "permute(0, 1, 2, 4, 5, 3)",
        "permute(0, 1, 2, 5, 4, 3)",
        "probe_golden",
    ),
    Mutation(
        "all padding is at the top and the left",
        "model/golden/window.py",
        "*[spec.padding] * 4",
        "*[2 * spec.padding, 0] * 2",
        "probe_golden",
    ),
    Mutation(
        "the factors of an addition are exchanged",
        "model/golden/add.py",
        "x * mx + y * my",
        "x * my + y * mx",
        "probe_golden",
    ),
    Mutation(
        "a pooling takes the smallest code",
        "model/golden/pool.py",
        ".amax(",
        ".amin(",
        "probe_golden",
    ),
]

_REMOVAL = "model/export/removal.py"

REMOVAL = [
    Mutation(
        "constants are folded under padding",
        _REMOVAL,
        "return constants.known & (constants.code == 0)",
        "return constants.known",
        "probe_removal",
    ),
    Mutation(
        "average pooling's effect on a constant is ignored",
        _REMOVAL,
        "return replace(constants, code=_codes(node, constants.code * spec.area))",
        "return constants",
        "probe_removal",
    ),
    Mutation(
        "a depthwise convolution's effect on a constant is ignored",
        _REMOVAL,
        "return _Constants(known, _codes(node, constants.code * sums))",
        "return _Constants(known, constants.code)",
        "probe_removal",
    ),
    Mutation(
        "a folded constant misses the multiplier",
        _REMOVAL,
        'b = node.tensors["b"] + m * (',
        'b = node.tensors["b"] + (',
        "probe_removal",
    ),
]

_RTL_NUMERICS = "hdl/lib/numerics.py"
_RTL_REQUANTIZE = "hdl/lib/requantize.py"
_REPACK = "hdl/lib/repack.py"
_PE = "hdl/pe/processing_element.py"
_ARRAY = "hdl/pe/array.py"
_PE_COST = "model/ir/pe_array.py"
_SEQUENCER = "hdl/pe/sequencer.py"
_COLLECT = "hdl/pe/collect.py"
_PE_BUFFER = "hdl/pe/buffer.py"

RTL = [
    Mutation(
        "RTL: nothing is added for the rounding",
        _RTL_REQUANTIZE,
        "self.b + spec.rounding",
        "self.b",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the shift is one too far",
        _RTL_REQUANTIZE,
        "total >> spec.shift",
        "total >> (spec.shift + 1)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the clamp loses the lowest code",
        _RTL_NUMERICS,
        "Mux(value[-1], span.low, span.high)",
        "Mux(value[-1], span.low + 1, span.high)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the clamp overlooks the bit above a code",
        _RTL_NUMERICS,
        "value[format.bits :].any()",
        "value[format.bits + 1 :].any()",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the index of the parameters does not return to 0",
        _RTL_REQUANTIZE,
        "index.eq(Mux(index == beats - 1, 0, index + 1))",
        "index.eq(index + 1)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: a stalled requantizer moves on",
        _RTL_REQUANTIZE,
        "en.eq(~self.o.valid | self.o.ready)",
        "en.eq(1)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the m of a channel belongs to its neighbour",
        _RTL_REQUANTIZE,
        "unit.m.eq(parameters[lane][spec.b_bits :].as_signed())",
        "unit.m.eq(parameters[lane][spec.b_bits - 1 :].as_signed())",
        "probe_rtl",
    ),
    Mutation(
        "RTL: weights lose their sign",
        _PE,
        "total = total - part if weight.signed and bit == weight.bits - 1 else total + part",
        "total = total + part",
        "probe_rtl",
    ),
    Mutation(
        "RTL: an accumulator is not cleared",
        _PE,
        "Mux(self.first, 0, acc)",
        "acc",
        "probe_rtl",
    ),
    Mutation(
        "RTL: a sum of the tree is too narrow",
        _PE,
        "product.sum_of(count)",
        "product.sum_of(1)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: bipolar codes are the other way round",
        "hdl/lib/numerics.py",
        "Mux(code, Const(1, signed(2)), Const(-1, signed(2)))",
        "Mux(code, Const(-1, signed(2)), Const(1, signed(2)))",
        "probe_rtl",
    ),
    Mutation(
        "RTL: rows are dealt to the folds in turn",
        _PE_COST,
        "padded[:, words].reshape(folds, self.rows, *words.shape).swapaxes(1, 2)",
        "padded[:, words].reshape(self.rows, folds, *words.shape).transpose(1, 2, 0, 3)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the rows are the other way round",
        _ARRAY,
        "pe.w.as_value().eq(w[row])",
        "pe.w.as_value().eq(w[spec.rows - 1 - row])",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the weight address does not return to 0",
        _SEQUENCER,
        "[fold.eq(0), self.word.eq(0)]",
        "fold.eq(0)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the index memory is read for the step in progress, not two ahead",
        _SEQUENCER,
        "entries.addr.eq(ahead)]",
        "entries.addr.eq(self.word)]",
        "probe_rtl",
    ),
    Mutation(
        "RTL: reading ahead in the index memory does not return to 0",
        _SEQUENCER,
        "ahead.eq(self._after(ahead))",
        "ahead.eq(ahead + 1)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the last fold drains as many beats as the others",
        _COLLECT,
        "left.eq(Mux(final, last_drains, drains))",
        "left.eq(drains)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: sums are taken while the holding register is busy",
        _ARRAY,
        "en.eq(~done | collect.free)",
        "en.eq(1)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: a stalled beat of sums does not hold",
        _COLLECT,
        "with m.If(leave):",
        "with m.If(self.o.valid):",
        "probe_rtl",
    ),
    Mutation(
        "RTL: sums are taken a cycle early",
        _ARRAY,
        'pipeline, "done"',
        'pipeline - 1, "done"',
        "probe_rtl",
    ),
    Mutation(
        "RTL: a vector is loaded over one in use",
        _PE_BUFFER,
        "self.i.ready.eq(~full.bit_select(load_half, 1))",
        "self.i.ready.eq(1)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: both vectors load into one half",
        _PE_BUFFER,
        "pixel.eq(0), load_half.eq(~load_half)",
        "pixel.eq(0)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: rows beyond the matrix reach the next layer",
        _ARRAY,
        "entering[pixel][row].eq(Mux(final, 0, sums[pixel][row]))",
        "entering[pixel][row].eq(sums[pixel][row])",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the repacker's buffer is too small",
        _REPACK,
        "buffer = Signal(capacity * bits)",
        "buffer = Signal((capacity - lanes) * bits)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the repacker is short of a beat",
        "model/ir/repack.py",
        "capacity = o.lanes - unit + 2 * most",
        "capacity = o.lanes - unit + most",
        "probe_rtl",
    ),
    Mutation(
        "RTL: a slice forgets its spare beat",
        "hdl/lib/slice.py",
        "waiting.eq(1)",
        "waiting.eq(0)",
        "probe_rtl",
    ),
    Mutation(
        "RTL: the mask's bits are the other way round",
        "hdl/select.py",
        "hex_text(stays.astype(np.uint8))",
        "hex_text(stays[:, ::-1].astype(np.uint8))",
        "probe_rtl",
    ),
]

_FFT = "hdl/circulant/fft.py"
_MAC = "hdl/circulant/spectral_mac.py"
_CIRCULANT = "hdl/circulant/array.py"

CIRCULANT = [
    Mutation(
        "RTL: a stage of the FFT shifts one too far",
        _FFT,
        "(total.value + rounding(right)) >> right <<",
        "(total.value + rounding(right)) >> right + 1 <<",
        "probe_circulant",
    ),
    Mutation(
        "RTL: a twiddle factor has the other sign",
        _FFT,
        "self.multiply(b - a, c)",
        "self.multiply(a - b, c)",
        "probe_circulant",
    ),
    Mutation(
        "RTL: a spectral product has a conjugate",
        _MAC,
        "terms.append([both, -self._product(m, s, self.plus[n])])",
        "terms.append([both, self._product(m, s, self.plus[n])])",
        "probe_circulant",
    ),
    Mutation(
        "RTL: the sets of lanes leave in the other order",
        _CIRCULANT,
        "word.eq(Array(choice)[which])",
        "word.eq(Array(choice[::-1])[which])",
        "probe_circulant",
    ),
]

_WINDOW = "hdl/conv/window.py"
_ADD = "hdl/conv/add.py"
_POOL = "hdl/conv/pool.py"
_DEPTHWISE = "hdl/conv/depthwise.py"

CONV = [
    Mutation(
        "RTL: a window shows the row above its frame",
        _WINDOW,
        "show = show & (top >= -n)",
        "show = show & (top >= -n - 1)",
        "probe_conv",
    ),
    Mutation(
        "RTL: a word of a window is replaced a read too early",
        _WINDOW,
        "(head < freed)",
        "(head <= freed)",
        "probe_conv",
    ),
    Mutation(
        "RTL: a window reads a word before it is written",
        _WINDOW,
        "(head > address)",
        "(head >= address)",
        "probe_conv",
    ),
    Mutation(
        "RTL: the stride goes on from row to row",
        _WINDOW,
        "Mux(end | (phase == layer.stride - 1), 0, phase + 1)",
        "Mux(phase == layer.stride - 1, 0, phase + 1)",
        "probe_conv",
    ),
    Mutation(
        "RTL: the sums of a window begin with its second column",
        "hdl/conv/reduce.py",
        "begin.eq(index == 0)",
        "begin.eq(index == 1)",
        "probe_conv",
    ),
    Mutation(
        "RTL: a global pool forgets its second group of channels",
        _POOL,
        "write.addr.eq(where)",
        "write.addr.eq(0)",
        "probe_conv",
    ),
    Mutation(
        "RTL: an addition takes a beat without its partner",
        _ADD,
        "y.o.ready.eq(en & x.o.valid)",
        "y.o.ready.eq(en)",
        "probe_conv",
    ),
    Mutation(
        "RTL: the factors of an addition change places",
        _ADD,
        "unit.mx.eq(factors.data[: spec.m_bits].as_signed())",
        "unit.mx.eq(factors.data[spec.m_bits :].as_signed())",
        "probe_conv",
    ),
    Mutation(
        "RTL: a depthwise array reads the weights of the column before",
        _DEPTHWISE,
        "weights.addr.eq(word)",
        "weights.addr.eq(Mux(word == 0, depth - 1, word - 1))",
        "probe_conv",
    ),
    Mutation(
        "RTL: a fork gives a beat twice",
        "hdl/lib/fork.py",
        "side.valid.eq(self.i.valid & ~taken[n])",
        "side.valid.eq(self.i.valid)",
        "probe_conv",
    ),
    Mutation(
        "RTL: the FIFO of a short cut holds three beats",
        "hdl/accelerator.py",
        "Fifo(*self._beat(edge), spec.depth)",
        "Fifo(*self._beat(edge), 3)",
        "probe_conv",
    ),
    Mutation(
        "RTL: the last vectors of a frame wait for a whole group",
        _PE_BUFFER,
        "(pixel == pixels - 1) | self.i.p.last",
        "pixel == pixels - 1",
        "probe_conv",
    ),
]

_PIM = "hdl/pim/array.py"
_MACRO = "hdl/pim/gyre_macro.v"
_SHIFT_ADD = "hdl/pim/gyre_shift_add.v"

PIM = [
    Mutation(
        "RTL: the bits of an activation come the other way round",
        _PIM,
        "for bit in range(bits) for signal in whole",
        "for bit in reversed(range(bits)) for signal in whole",
        "probe_pim",
    ),
    Mutation(
        "RTL: the top bit of signed activations counts positive",
        _PIM,
        "first if layer.in_format.values.signed else Const(0)",
        "Const(0) if layer.in_format.values.signed else Const(0)",
        "probe_pim",
    ),
    Mutation(
        "RTL: the slice of the signs counts positive",
        _SHIFT_ADD,
        "-(code << SIGN_STEP)",
        "(code << SIGN_STEP)",
        "probe_pim",
    ),
    Mutation(
        "RTL: a converter does not saturate",
        _MACRO,
        "if (v > HIGH) v = HIGH;",
        "",
        "probe_pim",
    ),
    Mutation(
        "RTL: a converter rounds down",
        "hdl/pim/macro.py",
        "spec.step // 2 + spec.offset * spec.step",
        "spec.offset * spec.step",
        "probe_pim",
    ),
    Mutation(
        "RTL: the off current stays in the counts",
        _MACRO,
        "v = v - reference;",
        "",
        "probe_pim",
    ),
    Mutation(
        "RTL: the first row tile alone counts",
        _PIM,
        "terms = [part[lane] for part in picked]",
        "terms = [part[lane] for part in picked[:1]]",
        "probe_pim",
    ),
    Mutation(
        "RTL: a circulant block turns the other way on its word lines",
        "hdl/pim/gyre_planes.v",
        "((seen << 1) & ~HEADS) | ((seen >> (K - 1)) & HEADS)",
        "((seen >> 1) & ~(HEADS << (K - 1))) | ((seen & HEADS) << (K - 1))",
        "probe_pim",
    ),
    Mutation(
        "RTL: copies give their sums in another order",
        _PIM,
        "self.o.p.codes.eq(unit.o.p.codes)",
        "self.o.p.codes.eq(units[n - 1].o.p.codes)",
        "probe_pim",
    ),
    Mutation(
        "RTL: a moved row takes the bit of its own line",
        "hdl/pim/gyre_moves.v",
        "own[move[0+:ROW_BITS]]",
        "own[move[ROW_BITS+:ROW_BITS]]",
        "probe_pim",
    ),
    Mutation(
        "RTL: a moved column is read where it was",
        _SHIFT_ADD,
        "column = columns[m*CODES+at*SLICES+q];",
        "column = at*SLICES+q;",
        "probe_pim",
    ),
    Mutation(
        "RTL: a stuck cell is written",
        _MACRO,
        'if (STUCK != "") keep = keep | stuck[(number*SPAN+row)*CHUNKS+e];',
        "",
        "probe_pim",
    ),
]

PROGRAM = [
    Mutation(
        "RTL: a row from outside goes to the macro that was written first",
        _PIM,
        "unit.number.eq(Mux(outside, self.program.p.macro, number))",
        "unit.number.eq(number)",
        "probe_program",
    ),
    Mutation(
        "RTL: a row is written although a frame is inside",
        "hdl/axi/registers.py",
        "self._port(m, busy | self.taken, clear)",
        "self._port(m, Const(0), clear)",
        "probe_program",
    ),
    Mutation(
        "RTL: frames go on while a row is written",
        _PIM,
        "self.loaded.eq(~blank & ~running & ~self.program.valid)",
        "self.loaded.eq(~blank & ~running)",
        "probe_program",
    ),
    Mutation(
        "RTL: the levels change while a row is written",
        "hdl/axi/program.py",
        "free = Signal(), self.write & ~self.o.valid",
        "free = Signal(), self.write",
        "probe_program",
    ),
]

FAULTS = [*GOLDEN, *REMOVAL, *RTL, *CIRCULANT, *CONV, *PIM, *PROGRAM]
