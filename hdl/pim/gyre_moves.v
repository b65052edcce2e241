// The rows of macros whose word lines were moved around stuck cells: macro n of MACROS takes the set
// of word lines number n in TILE_OF, and a moved row the bit of another. FILE holds MOVES entries for
// each macro: {valid, row, the row whose bit it takes}.
module gyre_moves #(
    parameter ROWS = 1,
    parameter ROW_BITS = 1,   // of a row's number
    parameter MACROS = 1,
    parameter TILES = 1,
    parameter TILE_BITS = 1,
    parameter [MACROS*TILE_BITS-1:0] TILE_OF = 0,
    parameter MOVES = 1,
    parameter FILE = ""
) (
    input wire clk,
    input wire en,
    input wire start,
    input wire [TILES*ROWS-1:0] lines,
    output reg [MACROS*ROWS-1:0] x
);
  /* verilator no_inline_module */  // the code of many stays in the processor's cache
  reg [2*ROW_BITS:0] entries[0:MACROS*MOVES-1];
  generate
    if (FILE != "") begin : contents
      initial $readmemh(FILE, entries);
    end
  endgenerate

  reg [MACROS*ROWS-1:0] gathered;

  task automatic moved(input integer m);
    integer n;
    reg [ROWS-1:0] own, rows;
    reg [2*ROW_BITS:0] move;
    begin
      own = lines[TILE_OF[m*TILE_BITS+:TILE_BITS]*ROWS+:ROWS];
      rows = own;
      /* verilator unroll_disable */
      for (n = 0; n < MOVES; n = n + 1) begin
        move = entries[m*MOVES+n];
        if (move[2*ROW_BITS]) rows[move[ROW_BITS+:ROW_BITS]] = own[move[0+:ROW_BITS]];
      end
      gathered[m*ROWS+:ROWS] = rows;
    end
  endtask

  integer m;
  always @(posedge clk)
    if (en && start) begin
      /* verilator unroll_disable */
      for (m = 0; m < MACROS; m = m + 1) moved(m);
      x <= gathered;
    end
endmodule
