"""The lane array: the engine of the depthwise convolution.

In a depthwise convolution each output channel sees one input channel alone, so there is nothing to
share between rows of a matrix. The array has, for each of ``lanes`` channels, one multiplier for
each kernel row; a step takes a kernel column of a group of channels.
"""

from dataclasses import dataclass

from model.ir.beats import Beats
from model.ir.conv import ConvSpec
from model.ir.cost import StageCost
from model.ir.errors import BadInput
from model.ir.lanewise import check_lanes, lane_window, lanewise_cost
from model.ir.layer import LayerSpec
from model.ir.mapping import MAX_LANES, EngineSpec
from model.ir.network import Node
from model.ir.spec import check_int
from model.ir.storage import DenseStorage
from model.ir.tree import tree_stages
from model.ir.window_buffer import WindowBuffer


@dataclass(frozen=True)
class LaneArraySpec(EngineSpec, kind="lane_array"):
    """A lane array.

    Parameters
    ----------
    lanes : int
        Channels worked on at once, as many as the stage has lanes.

    With ``G = ceil(channels / lanes)``:

    ==================  =======================================================================
    steps per frame     ``positions · kernel_columns · G``
    cycles per frame    those of the window: the steps or the input beats, whichever are more,
                        and its fill (see WindowBuffer)
    weight memory       ``G · kernel_columns · lanes · kernel_rows`` codes
    multipliers         ``lanes · kernel_rows`` of activation × weight bits, and ``lanes`` of
                        accumulator × m bits where the requantization multiplies
    ==================  =======================================================================
    """

    lanes: int

    def __post_init__(self) -> None:
        check_int("lanes", self.lanes, 1, MAX_LANES)

    def check(self, node: Node, lanes: int) -> None:
        layer, thing = node.spec, f"mapping: engine of {node.name}"
        remedy = "map the layer to another engine"
        if not isinstance(layer, ConvSpec) or layer.groups != layer.channels:
            found = "a convolution over all channels" if isinstance(layer, ConvSpec) else layer.kind
            raise BadInput(thing, f"a lane array for {found}", "a depthwise convolution", remedy)
        if layer.arithmetic.kind != "exact":
            raise BadInput(thing, f"{layer.arithmetic.kind} arithmetic", "exact", remedy)
        if layer.out_channels != layer.channels:
            raise BadInput(
                thing,
                f"{layer.out_channels} output channels of {layer.channels}",
                "as many as there are input channels",
                "give each input channel one output channel, and follow with a 1 × 1 convolution",
            )
        if not isinstance(layer.storage, DenseStorage):
            raise BadInput(
                node.name,
                f"{layer.storage.describe()} weights",
                "dense weights, which are all that a lane array reads",
                "compress the layer without blocks, or leave it to the golden model",
            )
        check_lanes(node.name, lanes, layer.channels)
        if lanes != self.lanes:
            raise BadInput(
                f"mapping: lanes of {node.name}",
                lanes,
                f"the {self.lanes} of its lane array",
                "plan again",
            )

    def window(self, layer: ConvSpec) -> WindowBuffer:
        """The window that the array reads."""
        return lane_window(layer, self.lanes)

    def depth(self, layer: ConvSpec) -> int:
        """Register stages from a beat: memory, operands, products, tree, accumulator."""
        return 4 + tree_stages(layer.kernel_rows)

    def cost(self, layer: LayerSpec, ins: tuple[Beats, ...], lanes: int) -> StageCost:
        assert isinstance(layer, ConvSpec)
        window, rows = self.window(layer), layer.kernel_rows
        words = window.groups * layer.kernel_columns
        steps = window.output_beats
        weight = layer.weight_format.bits
        return lanewise_cost(
            layer,
            ins,
            lanes,
            bits=layer.in_format.bits,
            acc=layer.accumulator(),
            depth=self.depth(layer),
            window=window,
            macs=layer.macs(),
            kept_macs=layer.macs(),
            steps=steps,
            weight_words=steps * lanes * rows,
            activation_words=steps * lanes * rows,
            multipliers=((lanes * rows, layer.in_format.bits, weight),),
            weight_bits=words * lanes * rows * weight,
        )
