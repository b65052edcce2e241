// Two vectors by their bits: one is written while the other is read, a bit of every activation at a
// time. A plane holds the bits of a place, of BANKS × WORDS × LANES activations; a word writes LANES
// places of each bank. If K > 1, a plane that is read comes back with the places of each K moved on
// by one, the last of them to the first.
module gyre_planes #(
    parameter BITS = 1,
    parameter BANKS = 1,
    parameter WORDS = 1,
    parameter LANES = 1,
    parameter K = 1,
    parameter WORD_BITS = 1,  // of a word's number
    parameter PLANE_BITS = 1  // of a bit's number
) (
    input wire clk,
    input wire load,
    input wire load_half,
    input wire [WORD_BITS-1:0] word,
    input wire [BITS*BANKS*LANES-1:0] d,  // the lowest bits of all first
    input wire read,
    input wire read_half,
    input wire [PLANE_BITS-1:0] plane,
    output reg [BANKS*WORDS*LANES-1:0] x
);
  /* verilator no_inline_module */  // the code of many stays in the processor's cache
  localparam SPAN = WORDS * LANES;
  localparam WIDTH = BANKS * SPAN;
  // Where a block begins.
  localparam [WIDTH-1:0] HEADS = {(WIDTH / K) {{{(K - 1) {1'b0}}, 1'b1}}};

  reg [WIDTH-1:0] held[0:2*BITS-1];
  wire [WIDTH-1:0] seen = held[read_half*BITS+plane];
  integer b, n;
  always @(posedge clk) begin
    if (read) begin
      x <= seen;
      if (K > 1)
        held[read_half*BITS+plane] <= ((seen << 1) & ~HEADS) | ((seen >> (K - 1)) & HEADS);
    end
    if (load)
      for (b = 0; b < BITS; b = b + 1)
        for (n = 0; n < BANKS; n = n + 1)
          held[load_half*BITS+b][n*SPAN+word*LANES+:LANES] <= d[(b*BANKS+n)*LANES+:LANES];
  end
endmodule
