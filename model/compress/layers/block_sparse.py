"""A linear layer that keeps the same number of blocks in every block row, and no others."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.compress.execution import full_precision
from model.ir.errors import BadInput


class BlockSparseLinear(nn.Module):
    """Linear layer of kept blocks; absent ones are neither stored nor multiplied.

    The input blocks that a block row reads are gathered, and all rows are one batched product.
    Features are padded to whole blocks inside.

    Parameters
    ----------
    in_features, out_features : int
        As of ``nn.Linear``.
    columns : int64 tensor [block rows, kept blocks a row]
        Block column of each kept block, ascending in a row.
    rows_per_block, columns_per_block : int
        Size r x c of a block.
    bias : bool
        Whether there is a bias [out_features].

    ``weight`` is [block rows, kept blocks a row, r, c].
    """

    columns: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        columns: Tensor,
        rows_per_block: int,
        columns_per_block: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.rows_per_block, self.columns_per_block = rows_per_block, columns_per_block
        self.block_rows = -(-out_features // rows_per_block)
        self.block_columns = -(-in_features // columns_per_block)
        self._check(columns)
        self.register_buffer("columns", columns.long())
        shape = *columns.shape, rows_per_block, columns_per_block
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def _check(self, columns: Tensor) -> None:
        good = columns.ndim == 2 and len(columns) == self.block_rows and columns.numel() > 0
        good = good and int(columns.min()) >= 0 and int(columns.max()) < self.block_columns
        if not good or bool((columns.diff(dim=1) <= 0).any()):
            raise BadInput(
                "block columns of a block-sparse layer",
                f"a table of shape {tuple(columns.shape)}",
                f"ascending columns from 0 to {self.block_columns - 1} in {self.block_rows} rows",
                "correct the table",
            )

    def reset_parameters(self) -> None:
        """Uniform within 1/sqrt(inputs that one output reads)."""
        bound = 1 / math.sqrt(self.columns.shape[1] * self.columns_per_block)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Samples [..., in_features] to [..., out_features]."""
        lead = x.shape[:-1]
        with full_precision(x) as x:
            y = self.product()(x.reshape(-1, self.in_features))
        return (y if self.bias is None else y + self.bias).reshape(*lead, self.out_features)

    def product(self) -> Callable[[Tensor], Tensor]:
        """Samples [n, in_features] to [n, out_features] without the bias."""
        matrices = self.weight.transpose(1, 2).flatten(2)  # [block rows, r, kept * c]
        size = self.block_columns * self.columns_per_block

        def apply(x: Tensor) -> Tensor:
            x = x.T  # blocks of the gather are then contiguous
            if size > self.in_features:
                x = functional.pad(x, (0, 0, 0, size - self.in_features))
            blocks = x.reshape(self.block_columns, -1).index_select(0, self.columns.flatten())
            read = blocks.reshape(self.block_rows, -1, x.shape[1])  # [block rows, kept * c, n]
            return torch.bmm(matrices, read).flatten(0, 1)[: self.out_features].T

        return apply

    def expanded(self) -> Tensor:
        """The weight as a matrix [out_features, in_features]; absent blocks are 0."""
        r, c = self.rows_per_block, self.columns_per_block
        grid = self.weight.new_zeros(self.block_rows, self.block_columns, r, c)
        row = torch.arange(self.block_rows, device=grid.device)[:, None]
        grid = grid.index_put((row, self.columns), self.weight)
        matrix = grid.transpose(1, 2).reshape(self.block_rows * r, self.block_columns * c)
        return matrix[: self.out_features, : self.in_features]

    @classmethod
    def of(
        cls, layer: nn.Linear, mask: Tensor, grid: tuple[int, int]
    ) -> "BlockSparseLinear | None":
        """The kept blocks of a plain layer.

        Parameters
        ----------
        layer : nn.Linear
            Gives weight and bias.
        mask : bool tensor [out, in]
            Which weights are kept.
        grid : (int, int)
            Rows and columns of a block.

        Returns None if the mask does not keep whole blocks, as many in each block row, or if the
        blocks do not divide the matrix: then the layer must stay plain.
        """
        (rows, columns), (r, c) = mask.shape, grid
        if rows % r or columns % c:
            return None
        blocks = mask.reshape(rows // r, r, columns // c, c).transpose(1, 2)
        kept = blocks.flatten(2).any(2)
        counts = kept.sum(1)
        whole = torch.equal(blocks.flatten(2).all(2), kept)
        if not whole or int(counts.min()) != int(counts.max()) or int(counts.min()) == 0:
            return None
        index = kept.nonzero()[:, 1].reshape(len(kept), -1)
        new = cls(columns, rows, index, r, c, layer.bias is not None)
        new = new.to(layer.weight.device, layer.weight.dtype).train(layer.training)
        with torch.no_grad():
            source = layer.weight.reshape(rows // r, r, columns // c, c).transpose(1, 2)
            new.weight.copy_(source[kept.to(source.device)].reshape(new.weight.shape))
            if layer.bias is not None:
                new.bias.copy_(layer.bias)
        return new

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, blocks of "
            f"{self.rows_per_block}x{self.columns_per_block}, {self.columns.shape[1]} of "
            f"{self.block_columns} kept, bias={self.bias is not None}"
        )
