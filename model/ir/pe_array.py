"""The dense processing-element array: ``rows × cols`` multiply-accumulates a cycle.

A layer of M rows and N columns is folded into ``ceil(M / rows)`` row folds of ``ceil(N / cols)``
steps. A step reads one weight word (rows × cols codes) and one activation word (cols codes). At the
end of a row fold the ``rows`` sums move to a holding register and leave ``lanes`` a beat while the
next fold computes.
"""

from dataclasses import dataclass
from fractions import Fraction

from model.ir.beats import Beats
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.layer import LayerSpec
from model.ir.linear import LinearSpec
from model.ir.mapping import MAX_LANES, EngineSpec
from model.ir.network import Node
from model.ir.repack import repack_cost
from model.ir.spec import check_int
from model.ir.storage import DenseStorage

TREE_ARITY = 4
"""Terms that one register stage of the adder tree sums: two levels of adders."""

SLICE_LATENCY = 1
"""The register slice between an engine and its requantizer."""


@dataclass(frozen=True)
class PeArraySpec(EngineSpec, kind="pe_array"):
    """A dense PE array.

    Parameters
    ----------
    rows : int
        Processing elements: matrix rows worked on at once.
    cols : int
        Multipliers in each processing element: matrix columns per step, and the width of an
        activation word.

    With M = out_features, N = in_features, ``Fm = ceil(M / rows)``, ``Fn = ceil(N / cols)``:

    ==================  =======================================================================
    cycles per vector   ``(Fm - 1) · max(Fn, rows / lanes) + max(Fn, last)``, where ``last`` is
                        the beats of the last fold, ``ceil((M - (Fm - 1) · rows) / lanes)``;
                        ``Fm · Fn`` where the drain is wide enough
    weight memory       ``Fm · Fn · rows · cols`` codes
    activation buffer   ``2 · Fn · cols`` codes (two vectors: one loads while one is computed)
    multipliers         ``rows · cols`` of activation × weight bits, and ``lanes`` of accumulator
                        × m bits where the requantization multiplies
    ==================  =======================================================================
    """

    rows: int
    cols: int

    def __post_init__(self) -> None:
        check_int("rows", self.rows, 1, MAX_LANES)
        check_int("cols", self.cols, 1, MAX_LANES)

    def row_folds(self, layer: LinearSpec) -> int:
        """Row folds of a layer, ``Fm``."""
        return -(-layer.out_features // self.rows)

    def col_folds(self, layer: LinearSpec) -> int:
        """Steps of a row fold, ``Fn``."""
        return -(-layer.in_features // self.cols)

    def tree_stages(self) -> int:
        """Register stages of the adder tree between the products and the accumulator."""
        stages, terms = 0, self.cols
        while terms > TREE_ARITY // 2:
            stages, terms = stages + 1, -(-terms // TREE_ARITY)
        return stages

    def drain_lanes(self, layer: LinearSpec) -> int:
        """Fewest output lanes with which draining a fold never outlasts computing one."""
        steps = self.col_folds(layer)
        rows = range(1, self.rows + 1)
        return next(d for d in rows if self.rows % d == 0 and self.rows <= d * steps)

    def fits(self, layer: LinearSpec) -> bool:
        """Whether the columns divide the layer, or one of the formats has a zero to pad with."""
        padded = layer.in_features % self.cols != 0
        return not padded or layer.in_format.has_zero or layer.weight_format.has_zero

    def check(self, node: Node, lanes: int) -> None:
        layer = node.spec
        if not isinstance(layer, LinearSpec) or layer.arithmetic.kind != "exact":
            raise BadInput(
                f"mapping: engine of {node.name}",
                "a PE array",
                f"an engine for {layer.kind!r} layers",
                "map the layer to another engine",
            )
        check_dense(node)
        if self.rows % lanes:
            raise BadInput(
                f"mapping: lanes of {node.name}",
                lanes,
                f"a divisor of the {self.rows} rows of its PE array",
                "plan again",
            )
        if not self.fits(layer):
            raise BadInput(
                f"mapping: columns of the PE array of {node.name}",
                self.cols,
                f"a divisor of {layer.in_features}, for neither format has a zero to pad with",
                "plan again",
            )

    def fold_cycles(self, layer: LinearSpec, lanes: int) -> int:
        """Cycles per vector."""
        folds, steps = self.row_folds(layer), self.col_folds(layer)
        last = -(-(layer.out_features - (folds - 1) * self.rows) // lanes)
        return (folds - 1) * max(steps, self.rows // lanes) + max(steps, last)

    def cost(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        assert isinstance(layer, LinearSpec)
        folds, steps = self.row_folds(layer), self.col_folds(layer)
        requantize = layer.requantize
        activation, weight = layer.in_format.bits, layer.weight_format.bits
        multipliers = [(self.rows * self.cols, activation, weight)]
        if requantize.multiplies:
            multipliers.append((lanes, layer.accumulator().bits, requantize.m_bits))
        (source,) = ins
        in_beats, beats = source.count, -(-layer.out_features // lanes)
        last = -(-(layer.out_features - (folds - 1) * self.rows) // lanes)
        load, n = steps, layer.in_features
        if source.lanes != self.cols:
            load = repack_cost(n, n, source.lanes, self.cols, masked=False).latency
        computed = max(steps, self.rows // lanes) * (folds - 1) + steps + self.tree_stages()
        return StageCost(
            cycles=max(self.fold_cycles(layer, lanes), in_beats, steps),
            ideal_cycles=Fraction(layer.macs(), self.rows * self.cols),
            input_beats=in_beats,
            output_beats=beats,
            # Memory, operands, products and accumulator are a register stage each.
            latency=load + computed + 4 + last + SLICE_LATENCY + requantize_latency(layer),
            macs=layer.macs(),
            steps=folds * steps,
            weight_words=folds * steps * self.rows * self.cols,
            activation_words=folds * steps * self.cols,
            multipliers=tuple(multipliers),
            weight_bits=folds * steps * self.rows * self.cols * weight,
            parameter_bits=beats * lanes * requantize.channel_bits() + requantize.layer_bits(),
            buffer_bits=2 * steps * self.cols * activation,
        )


def check_dense(node: Node) -> None:
    """Raise BadInput unless a fully connected layer keeps every weight, as the array reads them."""
    storage = node.spec.storage
    if not isinstance(storage, DenseStorage):
        raise BadInput(
            node.name,
            f"{storage.describe()} weights",
            "dense weights, which are all that a PE array reads",
            "compress the layer without blocks, or leave it to the golden model",
        )


def requantize_latency(layer: LinearSpec) -> int:
    """Register stages of the requantizer: operands, product (if it multiplies), result."""
    return 3 if layer.requantize.multiplies else 2
