// A memory whose contents are data: read from FILE when the simulation or the synthesis begins.
// The output is registered; it holds while `en` is low.
module gyre_rom #(
    parameter WIDTH = 1,
    parameter DEPTH = 1,
    parameter ADDR = 1,
    parameter FILE = ""
) (
    input wire clk,
    input wire en,
    input wire [ADDR-1:0] addr,
    output reg [WIDTH-1:0] data
);
  reg [WIDTH-1:0] mem[0:DEPTH-1];
  // Some tools read a module with its default parameters before they place it.
  generate
    if (FILE != "") begin : contents
      initial $readmemh(FILE, mem);
    end
  endgenerate
  always @(posedge clk) if (en) data <= mem[addr];
endmodule
