"""The weight codes of a layer, in the order of the hardware."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from model.compress.constraints import circulant_of, defining_vectors, grid_of, mask_of
from model.compress.constraints.base import as_matrix
from model.compress.layers import BlockSparseLinear, CirculantConv2d, CirculantLinear
from model.compress.quantizers import WeightQuantizer
from model.export.factors import fitted_scale
from model.export.storage import AS_CODES, Blocks, Matrix
from model.ir.block_circulant import BlockCirculantStorage
from model.ir.errors import BadInput
from model.ir.numerics import Format, IntRange, UniformFormat

UNSTRUCTURED = (1, 1)


def weights_of(layer: str, module: nn.Module, bits: int, per: str) -> tuple[Matrix, Tensor]:
    """Codes of a layer's weight and scales float64 [1] or [rows].

    Parameters
    ----------
    layer : str
        Name of the layer, for messages.
    module : nn.Module
        nn.Linear, nn.Conv2d or a structured layer, with a WeightQuantizer or plain.
    bits : int
        Bits of weights that have no quantizer.
    per : str
        ``"tensor"`` or ``"channel"``: scales of weights that have no quantizer; a channel is an
        index of the weight's first axis, which is a block row in structured layers.
    """
    codes, scale, format, quantizer = _codes(layer, module, bits, per)
    structure = None if quantizer is None else quantizer.structure
    if isinstance(module, CirculantLinear | CirculantConv2d):
        matrix = _circulant(module, codes, format)
        block = module.k
    elif isinstance(module, BlockSparseLinear):
        matrix = _block_sparse(module, codes, format)
        block = module.rows_per_block
    else:
        matrix = _plain(layer, module, codes, format, structure)
        block = 1
    if len(scale) > 1:
        scale = scale.repeat_interleave(block)[: len(matrix.codes)]
    return matrix, scale


def _codes(
    layer: str, module: nn.Module, bits: int, per: str
) -> tuple[Tensor, Tensor, Format, WeightQuantizer | None]:
    """Codes int64 of the weight's shape, scales float64 [1] or [first axis], format, quantizer."""
    if parametrize.is_parametrized(module, "weight"):
        chain = module.parametrizations.weight
        if len(chain) != 1 or not isinstance(chain[0], WeightQuantizer):
            raise BadInput(
                layer,
                f"the parametrization {type(chain[0]).__name__}",
                "plain weights or a WeightQuantizer",
                "remove the parametrization before export",
            )
        quantizer = chain[0]
        codes = quantizer.codes(chain.original)
        return codes, quantizer.scale.double(), quantizer.levels.format, quantizer
    weight = module.weight.detach().double()
    top = (1 << (bits - 1)) - 1
    rows = list(weight) if per == "channel" else [weight]
    scale = torch.tensor([fitted_scale(row, IntRange(-top, top)) for row in rows]).double()
    ratio = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
    codes = torch.floor(ratio + 0.5).clamp(-top, top).long()
    return codes, scale, UniformFormat(bits, True), None


def _circulant(module: CirculantLinear | CirculantConv2d, codes: Tensor, format: Format) -> Matrix:
    if isinstance(module, CirculantLinear):
        rows, columns, positions = module.out_features, module.in_features, 1
    else:
        positions = module.kernel_size[0] * module.kernel_size[1]
        rows, columns = module.out_channels, positions * module.in_channels
    storage = BlockCirculantStorage(module.k, positions)
    return _of_blocks(storage, codes.numpy(), rows, columns, format)


def _of_blocks(
    storage: BlockCirculantStorage, weight: np.ndarray, rows: int, columns: int, format: Format
) -> Matrix:
    places = np.arange(weight.size).reshape(weight.shape)
    whole = storage.expand({"weight": places}, rows, columns, AS_CODES)
    return Matrix(weight.reshape(-1)[whole], format, circulant=(storage, weight))


def _block_sparse(module: BlockSparseLinear, codes: Tensor, format: Format) -> Matrix:
    rows, columns = module.out_features, module.in_features
    r, c = module.rows_per_block, module.columns_per_block
    grid = torch.zeros(module.block_rows, module.block_columns, r, c, dtype=torch.int64)
    present = torch.zeros_like(grid, dtype=torch.bool)
    at = torch.arange(module.block_rows)[:, None], module.columns
    grid[at], present[at] = codes, True
    whole, there = (
        x.transpose(1, 2).reshape(module.block_rows * r, -1)[:rows, :columns].numpy()
        for x in (grid, present)
    )
    return Matrix(whole.copy(), format, Blocks.of(there.copy(), (r, c)))


def _plain(
    layer: str, module: nn.Module, codes: Tensor, format: Format, structure: object | None
) -> Matrix:
    """The matrix of nn.Linear or nn.Conv2d with what its frozen constraint says of it."""
    matrix = as_matrix(codes).contiguous().numpy()
    if structure is None:
        return Matrix(matrix, format)
    k = circulant_of(structure)
    mask = mask_of(structure, codes)
    masked = mask is not None and not bool(mask.all())
    if k is not None and not masked:
        return _circulant_of(layer, module, codes, matrix, k, format)
    if not masked:
        return Matrix(matrix, format)
    present = as_matrix(mask.cpu()).contiguous().numpy()
    grid = grid_of(structure)
    if grid is None and format.has_zero:
        return Matrix(np.where(present, matrix, 0), format)
    blocks = Blocks.of(present, grid or UNSTRUCTURED)
    if not format.has_zero and not blocks.whole():
        blocks = Blocks.of(present, UNSTRUCTURED)
    return Matrix(np.where(present, matrix, 0), format, blocks)


def _circulant_of(
    layer: str, module: nn.Module, codes: Tensor, matrix: np.ndarray, k: int, format: Format
) -> Matrix:
    """Defining vectors of a matrix that a projection has made block-circulant."""
    positions = 1
    if isinstance(module, nn.Conv2d):
        positions = module.kernel_size[0] * module.kernel_size[1]
    weight = defining_vectors(codes.double(), k).round().long().numpy()
    found = _of_blocks(BlockCirculantStorage(k, positions), weight, *matrix.shape, format)
    if not np.array_equal(found.codes, matrix):
        raise BadInput(
            layer,
            "codes that are not block-circulant",
            f"equal codes along the diagonals of {k} x {k} blocks",
            "give the layer one scale per tensor",
        )
    return found
