"""Handler of the LSTM: formats as its quantizer has them, or calibrated."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx, nn

from model.compress.fixed_point import LSTMQuantizer, step_of
from model.compress.quantizers import FormatOptions
from model.export.factors import bias_bits
from model.export.storage import AS_CODES, Blocks, Matrix
from model.export.values import Pending, Stream, Value
from model.export.walk import Walk, check_finite, handles
from model.export.weights import weights_of
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.errors import BadInput
from model.ir.linear import LinearSpec
from model.ir.lstm import LSTMSpec
from model.ir.numerics import FixedPointFormat
from model.ir.requantize import BIAS_BITS_MAX, RequantizeSpec
from model.nets.lstm import LSTM


@handles(LSTM, sequence=True)
def lstm(walk: Walk, name: str, module: LSTM, node: fx.Node, value: Value) -> Stream:
    """A node of its own: its output has codes, in the format that x and y share."""
    target = str(node.target)
    check_finite(node, module)
    if module.reverse is not None:
        raise BadInput(
            target,
            "a bidirectional LSTM",
            "one direction",
            "set bidirectional to false: no specification runs a sequence backwards yet",
        )
    if value.index.shape != (module.inputs,):
        raise BadInput(
            target,
            f"steps of shape {value.index.shape}",
            f"{module.inputs} features on one axis",
            "correct the layer's size",
        )
    if module.quantizer is None or module.quantizer.formats is None:
        module = _calibrated(walk, module, value)
    quantizer = module.quantizer
    source = _entering(walk, target, value, node.all_input_nodes[0], quantizer)
    spec, tensors = specification(target, module, source.format)
    index = np.arange(spec.outputs)
    return walk.append(name, spec, (source,), index, step_of(quantizer.formats.x), tensors)


def specification(
    layer: str, module: LSTM, in_format: FixedPointFormat
) -> tuple[LSTMSpec, dict[str, np.ndarray]]:
    """Specification and tensors of an LSTM whose quantizer has its formats."""
    quantizer = module.quantizer
    formats, tables = quantizer.formats, quantizer.tables
    parts = {
        name: _matrix(f"{layer}.{name}", getattr(module, name), quantizer.weights[name])
        for name in quantizer.weights
    }
    _check_blocks(layer, module.cells, parts["gates_x"], parts["gates_y"])
    x_columns, gates = _joined(parts["gates_x"], parts["gates_y"])
    bias = _codes(module.gates_x.bias, quantizer.bias_step())
    shift = formats.x.frac_bits + formats.weight.frac_bits - formats.gates.frac_bits
    found = {
        "gates": _linear(f"{layer}.gates", gates, formats.x, formats.gates, shift, bias),
    }
    if formats.project is not None:
        shift = formats.project.frac_bits + formats.unit.frac_bits - formats.x.frac_bits
        zero = np.zeros(module.outputs, dtype=np.int64)
        found["project"] = _linear(
            f"{layer}.project", parts["project"], formats.unit, formats.x, shift, zero
        )
    tensors = {
        f"{part}_{name}": tensor for part, (_, own) in found.items() for name, tensor in own.items()
    }
    if formats.peephole is not None:
        codes = _codes(module.peephole, step_of(formats.peephole))
        span = formats.peephole.codes
        tensors["peephole"] = codes.clip(span.low, span.high)
    spec = LSTMSpec(
        features=module.inputs,
        cells=module.cells,
        x_columns=x_columns,
        in_format=in_format,
        gates=found["gates"][0],
        project=found["project"][0] if "project" in found else None,
        peephole_format=formats.peephole,
        state_format=formats.state,
        **tables,
    )
    return spec, tensors


def _calibrated(walk: Walk, module: LSTM, value: Value) -> LSTM:
    """A copy with a quantizer, fitted to the calibration samples."""
    module = copy.deepcopy(module).float()
    module.quantizer = None
    module.quantize_self(
        FormatOptions(weight_bits=walk.weight_bits, activation_bits=walk.activation_bits)
    )
    if isinstance(value, Stream):
        real = value.codes.double() * value.scale
    else:
        real = value.real() if isinstance(value, Pending) else walk.samples
    module.quantizer.fit(module, module.reach(real.float().unflatten(0, (-1, walk.steps))))
    return module


def _entering(
    walk: Walk, layer: str, value: Value, at: fx.Node, quantizer: LSTMQuantizer
) -> Stream:
    """The codes that enter: in the LSTM's own format, if they have none yet."""
    format = quantizer.formats.x
    if not isinstance(value, Stream):
        value = walk.quantized(value, format, step_of(format))
    if not isinstance(value.format, FixedPointFormat):
        raise BadInput(
            layer,
            f"codes on the scale {value.scale:.6g} from {value.edge!r}",
            "an input that nothing else quantizes, or the output of an LSTM",
            "remove the quantizer before the LSTM: it has its own",
        )
    return value


def _matrix(layer: str, module: nn.Module, format: FixedPointFormat) -> Matrix:
    matrix, _ = weights_of(layer, module, format.bits, "tensor")
    return replace(matrix, format=format)


def _check_blocks(layer: str, cells: int, x: Matrix, y: Matrix) -> None:
    """Raise BadInput unless both gate matrices have circulant blocks of one size, or none has."""
    sizes = [None if one.circulant is None else one.circulant[0].k for one in (x, y)]
    if sizes[0] != sizes[1]:
        found = ["no" if k is None else f"{k} x {k}" for k in sizes]
        raise BadInput(
            f"{layer}: circulant blocks of gates_x and gates_y",
            " and ".join(found),
            "blocks of one size in both, or in none",
            "give gates_x and gates_y the same block_circulant",
        )
    if sizes[0] is not None and cells % sizes[0]:
        raise BadInput(
            f"{layer}: circulant blocks of the gates",
            f"{sizes[0]} x {sizes[0]} for {cells} cells, so that a block reaches over two gates",
            f"cells that are a multiple of {sizes[0]}",
            "change cells or block_circulant",
        )


def _joined(x: Matrix, y: Matrix) -> tuple[int, Matrix]:
    """The columns of x and the matrix over [x, y].

    Circulant blocks stay so: x is padded to whole blocks. Blocks on one grid of rows stay so. Any
    other pair becomes one plain matrix.
    """
    columns = x.codes.shape[1]
    codes = np.concatenate([x.codes, y.codes], 1)
    if x.circulant is not None and y.circulant is not None:
        (storage, first), (_, second) = x.circulant, y.circulant
        weight = np.concatenate([first, second], 1)
        both = BlockCirculantStorage(storage.k)
        rows, whole = len(codes), weight.shape[1] * storage.k
        joined = both.expand({"weight": weight}, rows, whole, AS_CODES)
        padded = first.shape[1] * storage.k
        return padded, Matrix(joined, x.format, circulant=(both, weight))
    grids = x.blocks is not None and y.blocks is not None
    if grids and np.array_equal(x.blocks.row, y.blocks.row):
        present = np.concatenate([x.blocks.present, y.blocks.present], 1)
        column = np.concatenate([x.blocks.column, y.blocks.column + x.blocks.column[-1] + 1])
        blocks = Blocks(present, x.blocks.row, column)
        return columns, Matrix(codes, x.format, blocks).settled()
    return columns, Matrix(codes, x.format)


def _linear(
    layer: str,
    matrix: Matrix,
    in_format: FixedPointFormat,
    out_format: FixedPointFormat,
    shift: int,
    bias: np.ndarray,
) -> tuple[LinearSpec, dict[str, np.ndarray]]:
    """Specification and tensors of one matrix: a shift and a bias, without a multiplier."""
    if np.abs(bias).max() >= 2.0 ** (BIAS_BITS_MAX - 1):
        raise BadInput(
            f"{layer}: bias",
            f"codes up to {np.abs(bias).max()}",
            f"codes of {BIAS_BITS_MAX} bits",
            "use fewer bits, or train with weight decay",
        )
    storage, weight = matrix.settled().packed()
    rows, columns = matrix.codes.shape
    rule = RequantizeSpec(out_format, shift, "one", 0, bias_bits(bias))
    spec = LinearSpec(columns, rows, in_format, matrix.format, rule, storage=storage)
    return spec, {**weight, "b": bias}


def _codes(values: Tensor, step: float) -> np.ndarray:
    """Nearest codes, int64, a half rounding up, as the emulation rounds them."""
    return torch.floor(values.detach() / step + 0.5).long().numpy()
