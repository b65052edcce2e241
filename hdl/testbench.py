"""The test bench of a package: Verilog that checks itself, for simulators that a user has.

It reads a few golden frames from ``tb_input.hex`` and ``tb_expected.hex``, drives the AXI shell
with random pauses, and compares

1. a checksum over the bytes of every .hex file, its own included,
2. a checksum over every memory as it is loaded,
3. identity and network hash by AXI4-Lite,
4. every output code, while two of the input frames are broken on purpose (one too short, one too
   long), and the counters of frames after that.

Both checksums are FNV-1a: ``sum = (sum ^ word) · prime mod 2^32``. Each step is a bijection of the
sum, so a change within one word of at most 32 bits (one flipped bit, above all) always changes it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hdl.accelerator import Accelerator
from hdl.axi.shell import MARK_BITS, AxiShell
from hdl.axi.words import contained
from hdl.lib.hexfile import read_hex
from hdl.outline import ROM, modules, placed
from model.ir.axi import ADDRESS_BITS, IDENTITY, hash_words, register
from model.ir.errors import BadInput
from model.ir.macro import WORD
from model.ir.pim_array import PimArraySpec

INPUT_FILE = "tb_input.hex"
EXPECTED_FILE = "tb_expected.hex"
OFFSET, PRIME = 0x811C9DC5, 0x01000193


@dataclass(frozen=True)
class GoldenFrames:
    """Frames that went through the golden model.

    Parameters
    ----------
    codes, expected : int64 arrays [frames, length]
        Input codes, and the output codes that must come.
    marks : int64 array [frames] or None
        Marks of each frame (bit 0 ``begin``, bit 1 ``idle``), of a recurrent network.
    """

    codes: np.ndarray
    expected: np.ndarray
    marks: np.ndarray | None = None


@dataclass(frozen=True)
class LoadedMemory:
    """A memory of the design: where it is, its size, and the file that it is read from."""

    path: str
    width: int
    depth: int
    file: str


def _words(bits: int, rows: int, columns: int, macros: int) -> tuple[int, int]:
    """Width and depth of a memory of so many bits of all cells of macros, as MacroSpec.words."""
    return WORD, macros * 8 * -(-rows // 8) * bits * -(-columns // WORD)


_MEMORIES: dict[str, dict[str, tuple[str, Callable[[dict[str, int]], tuple[int, int]]]]] = {
    ROM: {"FILE": ("mem", lambda p: (p["WIDTH"], p["DEPTH"]))},
    "gyre_macro": {
        "FILE": ("cells", lambda p: _words(p["BITS"], p["ROWS"], p["COLUMNS"], p["MACROS"])),
        "STUCK": ("stuck", lambda p: _words(1, p["ROWS"], p["COLUMNS"], p["MACROS"])),
    },
    "gyre_moves": {
        "FILE": ("entries", lambda p: (2 * p["ROW_BITS"] + 1, p["MACROS"] * p["MOVES"])),
    },
    "gyre_shift_add": {
        "COLUMNS": (
            "columns",
            lambda p: (p["PHASE_BITS"] + p["CODE_BITS"], p["MACROS"] * p["OUTPUTS"] * p["SLICES"]),
        ),
    },
}
"""Of each module that reads files, by the parameter that names one: the memory, its width and depth
from the instance's parameters. A module's name may have another in front of it."""


def memories(verilog: str, top: str) -> list[LoadedMemory]:
    """Every memory that a generated design reads from a file, found in its text."""
    bodies = modules(verilog)

    def walk(module: str, path: str) -> Iterator[LoadedMemory]:
        for one in placed(bodies[module]):
            inside, found = f"{path}{one.name}", one.parameters
            own = next((at for name, at in _MEMORIES.items() if one.module.endswith(name)), None)
            if own is not None:
                numbers = {key: int(value) for key, value in found.items() if value.isdigit()}
                for parameter, (memory, size) in own.items():
                    if parameter in found:
                        file = found[parameter]
                        yield LoadedMemory(f"{inside}.{memory}", *size(numbers), file)
            elif one.module in bodies:
                yield from walk(one.module, f"{inside}.")

    return list(walk(top, ""))


def file_checksum(data: bytes) -> int:
    """The checksum over the bytes of a file."""
    total = OFFSET
    for byte in data:
        total = (total ^ byte) * PRIME & 0xFFFFFFFF
    return total


def memory_checksum(text: str, width: int) -> int:
    """The checksum over a memory that holds a file: words of 32 bits, the lowest of each first."""
    matrix = read_hex(text, width)
    pieces = -(-width // 32)
    bits = np.zeros((len(matrix), 32 * pieces), dtype=np.uint64)
    bits[:, :width] = matrix
    weights = np.uint64(1) << np.arange(32, dtype=np.uint64)
    total = OFFSET
    for word in (bits.reshape(-1, 32) @ weights).tolist():
        total = (total ^ word) * PRIME & 0xFFFFFFFF
    return total


def _hex_lines(words: list[int], width: int) -> str:
    digits = -(-width // 4)
    return "".join(f"{word:0{digits}x}\n" for word in words)


@dataclass(frozen=True)
class TestBench:
    """The text of a test bench and of its own .hex files."""

    __test__ = False  # the name is no test of pytest's

    verilog: str
    files: dict[str, str]


def make_test_bench(
    accelerator: Accelerator,
    verilog: str,
    files: Mapping[str, str],
    frames: GoldenFrames,
    *,
    shell: str,
    name: str,
    prefix: str = "",
) -> TestBench:
    """The test bench ``name`` of a shell and its golden frames.

    Parameters
    ----------
    accelerator : Accelerator
    verilog : str
        The whole design: accelerator and shell.
    files : mapping
        Contents of all its .hex files.
    frames : GoldenFrames
        At least two frames, so that a good one stands behind each broken one.
    shell : str
        Name of the shell's module.
    prefix : str
        Before the names of the test bench's own files.
    """
    if len(frames.codes) < 2:
        raise BadInput("test bench: frames", len(frames.codes), "at least 2", "give more")
    network, mapping = accelerator.network, accelerator.mapping
    component = AxiShell(accelerator)
    entry = mapping.beats(network, network.input.name)
    exit_ = mapping.beats(network, network.output.name)
    in_width, out_width = (
        component.i_lanes * component.i_bits,
        component.o_lanes * component.o_bits,
    )
    user = MARK_BITS if network.recurrent else 0

    def transfers(words: list[int], mark: int) -> list[int]:
        return [
            word | mark << in_width | (n == len(words) - 1) << (in_width + user)
            for n, word in enumerate(words)
        ]

    good = contained(frames.codes, entry, component.i_bits)
    marks = [0] * len(good) if frames.marks is None else [int(mark) for mark in frames.marks]
    sent: list[int] = []
    for n, (words, mark) in enumerate(zip(good, marks, strict=True)):
        if n == 1 and len(words) > 1:
            sent += transfers(words[:-1], mark)
        if n == 1:
            sent += transfers([*words, words[0]], mark)
        sent += transfers(words, mark)
    wanted = [
        word | (n == exit_.count - 1) << out_width
        for frame in contained(frames.expected, exit_, component.o_bits)
        for n, word in enumerate(frame)
    ]
    in_file, out_file = prefix + INPUT_FILE, prefix + EXPECTED_FILE
    own = {
        in_file: _hex_lines(sent, in_width + user + 1),
        out_file: _hex_lines(wanted, out_width + 1),
    }
    loaded = memories(verilog, shell)
    missing = sorted(set(files) - {memory.file for memory in loaded})
    if missing:
        raise ValueError(f"every .hex file must be read by a memory, which {missing} are not")
    costs = [cost for _, cost in mapping.costs(network)]
    cycles = sum(cost.latency for cost in costs) + 8 * (len(good) + 3) * max(
        *(cost.cycles for cost in costs), entry.count, exit_.count
    )
    text = _TEXT.format(
        name=name,
        shell=shell,
        in_high=in_width - 1,
        out_high=out_width - 1,
        in_last=in_width + user,
        out_last=out_width,
        sent=len(sent),
        wanted=len(wanted),
        widest=32 * max(-(-memory.width // 32) for memory in loaded) - 1,
        offset=f"32'h{OFFSET:08x}",
        prime=f"32'h{PRIME:08x}",
        address_bits=ADDRESS_BITS,
        address_high=ADDRESS_BITS - 1,
        user_port=f"    .s_axis_tuser(s_axis_tdata[{in_width + 1}:{in_width}]),\n" if user else "",
        word_high=in_width + user - 1,
        limit=20_000 + 8 * cycles + _writing(accelerator),
        settle=1000 + max(cost.latency for cost in costs),
        in_file=in_file,
        out_file=out_file,
        files="".join(_FILE.format(name=n, sum=_sum(t)) for n, t in sorted((own | files).items())),
        memories="".join(_memory(memory, files[memory.file]) for memory in loaded),
        registers="".join(_registers(accelerator, len(good), int(len(good[0]) > 1))),
        frames=len(good),
        memory_count=len(loaded),
    )
    return TestBench(text, own)


def _writing(accelerator: Accelerator) -> int:
    """Cycles before the first frame, in which cells are written."""
    network, mapping = accelerator.network, accelerator.mapping
    cycles = [0]
    for stage in mapping.stages:
        spec = None if stage.engine is None else mapping.engine(stage.engine)
        if isinstance(spec, PimArraySpec):
            cycles.append(spec.writing_cycles(network[stage.node].spec, spec.attempts))
    return max(cycles)


def _sum(text: str) -> str:
    return f"32'h{file_checksum(text.encode()):08x}"


def _memory(memory: LoadedMemory, text: str) -> str:
    return _MEMORY.format(
        path=memory.path,
        depth=memory.depth,
        pieces=-(-memory.width // 32),
        file=memory.file,
        sum=f"32'h{memory_checksum(text, memory.width):08x}",
    )


def _registers(accelerator: Accelerator, good: int, short: int) -> Iterator[str]:
    """Checks of registers after the last frame."""
    wanted = {"identity": IDENTITY, "frames_in": good, "frames_out": good}
    wanted |= {"short_frames": short, "long_frames": 1}
    words = [(name, register(name).offset, value) for name, value in wanted.items()]
    digest = register("network_hash").offset
    for n, word in enumerate(hash_words(accelerator.network.hash())):
        words.append((f"network_hash word {n}", digest + 4 * n, word))
    for name, offset, value in words:
        yield _REGISTER.format(
            address=f"{ADDRESS_BITS}'h{offset:03x}", name=name, value=f"32'h{value:08x}"
        )


_FILE = """\
    file = $fopen("{name}", "rb");
    sum_file;
    if (sum !== {sum}) begin
      errors = errors + 1;
      $display("FAIL: file {name}: checksum %h, expected %h", sum, {sum});
    end
"""
_MEMORY = """\
    sum = {offset};
    for (i = 0; i < {depth}; i = i + 1) begin
      word = dut.{path}[i];
      for (j = 0; j < {pieces}; j = j + 1) begin
        sum = (sum ^ word[31:0]) * {prime};
        word = word >> 32;
      end
    end
    if (sum !== {{sum}}) begin
      errors = errors + 1;
      $display("FAIL: memory of {{file}}: checksum %h, expected %h", sum, {{sum}});
    end
"""
_MEMORY = (
    _MEMORY.replace("{{", "{")
    .replace("}}", "}")
    .replace("{offset}", f"32'h{OFFSET:08x}")
    .replace("{prime}", f"32'h{PRIME:08x}")
)
_REGISTER = """\
    read({address});
    if (value !== {value}) begin
      errors = errors + 1;
      $display("FAIL: register {name}: %h, expected %h", value, {value});
    end
"""
_TEXT = """\
// Checks itself: prints PASS and ends, or prints what is wrong and stops. Run it in the folder that
// holds the .hex files:
//
//   with Icarus:    iverilog -g2005 -o {name}.vvp -s {name} *.v && vvp -N {name}.vvp
//   with Verilator: verilator --binary --timing -Wno-fatal --top-module {name} *.v
//                   obj_dir/V{name}
`timescale 1ns / 1ps
module {name};
  reg aclk = 0;
  reg aresetn = 0;
  always #5 aclk = ~aclk;

  reg [{word_high}:0] s_axis_tdata = 0;
  reg s_axis_tlast = 0, s_axis_tvalid = 0, m_axis_tready = 0;
  wire s_axis_tready, m_axis_tlast, m_axis_tvalid;
  wire [{out_high}:0] m_axis_tdata;
  reg [{address_high}:0] s_axi_araddr = 0;
  reg s_axi_arvalid = 0, s_axi_rready = 0;
  wire s_axi_arready, s_axi_rvalid;
  wire [31:0] s_axi_rdata;
  wire [1:0] s_axi_rresp;
  {shell} dut (
    .aclk(aclk),
    .aresetn(aresetn),
    .s_axis_tdata(s_axis_tdata[{in_high}:0]),
    .s_axis_tlast(s_axis_tlast),
    .s_axis_tvalid(s_axis_tvalid),
    .s_axis_tready(s_axis_tready),
{user_port}    .m_axis_tdata(m_axis_tdata),
    .m_axis_tlast(m_axis_tlast),
    .m_axis_tvalid(m_axis_tvalid),
    .m_axis_tready(m_axis_tready),
    .s_axi_awaddr({address_bits}'d0),
    .s_axi_awprot(3'd0),
    .s_axi_awvalid(1'b0),
    .s_axi_awready(),
    .s_axi_wdata(32'd0),
    .s_axi_wstrb(4'd0),
    .s_axi_wvalid(1'b0),
    .s_axi_wready(),
    .s_axi_bresp(),
    .s_axi_bvalid(),
    .s_axi_bready(1'b0),
    .s_axi_araddr(s_axi_araddr),
    .s_axi_arprot(3'd0),
    .s_axi_arvalid(s_axi_arvalid),
    .s_axi_arready(s_axi_arready),
    .s_axi_rdata(s_axi_rdata),
    .s_axi_rresp(s_axi_rresp),
    .s_axi_rvalid(s_axi_rvalid),
    .s_axi_rready(s_axi_rready),
    .irq()
  );

  // A word is data, marks of a sequence if there are any, and TLAST at the top.
  reg [{in_last}:0] sent_words[0:{sent}-1];
  reg [{out_last}:0] wanted_words[0:{wanted}-1];
  initial begin
    $readmemh("{in_file}", sent_words);
    $readmemh("{out_file}", wanted_words);
  end

  integer errors = 0, sent = 0, received = 0, cycles = 0, i, j, file, char;
  reg [31:0] sum, value;
  reg [{widest}:0] word;
  reg [15:0] noise = 16'hace1;
  reg go = 0;

  // Frames in and out, both sides pausing at random.
  always @(posedge aclk) begin
    cycles <= cycles + 1;
    noise <= {{noise[14:0], noise[15] ^ noise[13] ^ noise[12] ^ noise[10]}};
    if (go) begin
      if (!s_axis_tvalid || s_axis_tready) begin
        s_axis_tvalid <= sent < {sent} && noise[0];
        if (sent < {sent} && noise[0]) begin
          {{s_axis_tlast, s_axis_tdata}} <= sent_words[sent];
          sent <= sent + 1;
        end
      end
      m_axis_tready <= noise[5] | noise[9];
      if (m_axis_tvalid && m_axis_tready) begin
        received <= received + 1;
        if (received >= {wanted}) begin
          errors = errors + 1;
          $display("FAIL: a surplus output transfer %h", m_axis_tdata);
        end else if ({{m_axis_tlast, m_axis_tdata}} !== wanted_words[received]) begin
          errors = errors + 1;
          $display("FAIL: output transfer %0d: last and data %h, expected %h", received,
                   {{m_axis_tlast, m_axis_tdata}}, wanted_words[received]);
        end
      end
    end
  end

  task sum_file;
    begin
      sum = {offset};
      if (file != 0) begin
        char = $fgetc(file);
        while (char != -1) begin
          sum = (sum ^ char) * {prime};
          char = $fgetc(file);
        end
        $fclose(file);
      end
    end
  endtask

  // AXI4-Lite signals change at falling edges and move at rising ones.
  task read;
    input [{address_high}:0] address;
    begin
      @(negedge aclk);
      s_axi_araddr = address;
      s_axi_arvalid = 1;
      j = 0;
      while (!s_axi_arready && j < 100) begin
        @(negedge aclk);
        j = j + 1;
      end
      @(negedge aclk);
      s_axi_arvalid = 0;
      s_axi_rready = 1;
      while (!s_axi_rvalid && j < 100) begin
        @(negedge aclk);
        j = j + 1;
      end
      value = s_axi_rdata;
      if (s_axi_rvalid !== 1 || s_axi_rresp !== 0) begin
        errors = errors + 1;
        $display("FAIL: register %h: valid %b, response %h", address, s_axi_rvalid, s_axi_rresp);
      end
      @(negedge aclk);
      s_axi_rready = 0;
    end
  endtask

  initial begin
    #1;
{files}{memories}    if (errors != 0) begin
      $display("FAIL: %0d errors before the first frame", errors);
      $stop;
    end
    #99 @(negedge aclk) aresetn = 1;
    @(negedge aclk) go = 1;
    while (received < {wanted} && cycles < {limit}) @(negedge aclk);
    if (received < {wanted}) begin
      errors = errors + 1;
      $display("FAIL: %0d of {wanted} output transfers after %0d cycles", received, cycles);
    end
    repeat ({settle}) @(negedge aclk);
{registers}    if (errors == 0) begin
      $display("PASS: {frames} frames, {memory_count} memories, %0d cycles", cycles);
      $finish;
    end else begin
      $display("FAIL: %0d errors", errors);
      $stop;
    end
  end
endmodule
"""
