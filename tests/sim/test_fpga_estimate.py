"""What a design is said to take of an FPGA, before any tool runs."""

from hdl.accelerator import Accelerator
from hdl.verilog import Design, generate_accelerator
from model.ir.cost import StageCost
from model.ir.planner import Budget, plan
from sim.fpga_estimate import blocks, count, estimate, least_dsp, memory
from tests.examples import small_network

TEXT = """\
module top(clk);
  wire [4:0] \\$1 ;
  wire [7:0] \\$2 ;
  reg \\$auto$verilog_backend.cc:2355:dump_module$1  = 0;
  reg [4:0] count = 5'h00;
  output [1:0] o;
  reg [1:0] o = 2'h0;
  reg [43:0] memory [53:0];
  assign \\$1  = count + 1'h1;
  assign \\$2  = o[0] ? 8'h00 : 8'h01;
  part a (
    .clk(clk)
  );
  part \\b.c  (
    .clk(clk)
  );
endmodule
module part(clk);
  reg x = 1'h0;
  gyre_rom #(
    .ADDR(32'd7),
    .DEPTH(32'd108),
    .FILE("w.hex"),
    .WIDTH(32'd440)
  ) rom (
    .clk(clk)
  );
endmodule
"""


def cost(multipliers: tuple) -> StageCost:
    return StageCost(1, 1, 1, 1, 1, multipliers=multipliers)


def test_a_mapping_takes_the_blocks_of_its_wide_multipliers_at_the_least() -> None:
    costs = [cost(((4, 8, 6), (2, 21, 12))), cost(((5, 8, 1), (1, 36, 19), (7, 8, 3)))]
    assert least_dsp(costs) == 4 + 4 + 4


def test_memories_take_the_fewest_blocks_of_any_width() -> None:
    sizes = {(36, 512): 1, (37, 512): 2, (18, 1024): 1, (9, 2048): 1, (4, 4096): 1, (1, 16384): 1}
    sizes |= {(8, 3000): 2, (440, 108): 13, (1, 16385): 1, (1, 18433): 2}
    sizes |= {(40, 3724): 9, (40, 3528): 8, (10, 5529): 4, (24, 5529): 8}  # as Yosys does
    assert {size: blocks(*size) for size in sizes} == sizes


def test_small_memories_are_no_blocks() -> None:
    assert memory(28, 40, True) == {"rom": 28 * 3, "ff": 28}
    assert memory(64, 100, True) == {"bram": 2}
    assert memory(44, 54, False) == {"table": 44, "ff": 44}
    assert memory(80, 100, False) == {"bram": 3}
    assert memory(8, 200, False) == {"bram": 1}
    assert memory(18, 77, False) == {"bram": 1}
    assert memory(96, 48, False) == {"bram": 3}  # as dear in tables
    assert memory(192, 64, True) == {"rom": 192 * 4, "ff": 192}  # as dear in blocks


def test_modules_count_as_often_as_they_are_placed() -> None:
    found = +count(Design("top", TEXT, {}))
    assert found == {
        **{"ff": 5 + 2 + 44 + 2, "table": 44, "bram": 26},
        **{"carry": 6, "chain": 1, "mask": 8},
    }


def generated(bits: int) -> tuple[dict[str, int], list[StageCost]]:
    """The estimate of a small network whose weights have so many bits, and its costs."""
    network = small_network(7, True, weight_bits=bits)
    accelerator = Accelerator(network, plan(network, Budget(3)))
    costs = [one for _, one in accelerator.mapping.costs(network)]
    return estimate(generate_accelerator(accelerator)), costs


def test_estimate_of_a_generated_design_has_every_resource() -> None:
    found, costs = generated(5)
    assert found["dsp"] == least_dsp(costs) == 3
    assert found["bram"] == 0
    assert found["ff"] > 60
    assert found["lut"] > 60


def test_weights_of_few_bits_take_no_multiplier_block_but_more_tables() -> None:
    (few, costs), (many, _) = generated(3), generated(5)
    assert few["dsp"] == least_dsp(costs) == 0
    assert few["lut"] > many["lut"]
