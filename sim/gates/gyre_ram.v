// A memory of one write and one read port. What a read finds of a write in the same cycle is old.
module gyre_ram #(
    parameter WIDTH = 1, parameter DEPTH = 1, parameter ADDR = 1
) (
    input wire clk,
    input wire re,
    input wire [ADDR-1:0] ra,
    output reg [WIDTH-1:0] rd,
    input wire [WIDTH-1:0] we,
    input wire [ADDR-1:0] wa,
    input wire [WIDTH-1:0] wd
);
  reg [WIDTH-1:0] mem[0:DEPTH-1];
  always @(posedge clk) begin
    if (|we) mem[wa] <= (mem[wa] & ~we) | (wd & we);
    if (re) rd <= mem[ra];
  end
endmodule
