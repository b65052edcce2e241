// A memory that takes one word for each `we`, counts them, and writes what it holds to FILE at `dump`.
// For simulation: words beyond DEPTH are counted but not kept.
module gyre_capture #(
    parameter WIDTH = 1,
    parameter DEPTH = 1,
    parameter ADDR = 1,
    parameter FILE = ""
) (
    input wire clk,
    input wire rst,
    input wire we,
    input wire dump,
    input wire [WIDTH-1:0] data,
    output reg [31:0] count
);
  reg [WIDTH-1:0] mem[0:DEPTH-1];
  initial count = 0;
  always @(posedge clk) begin
    if (we && count < DEPTH) mem[count[ADDR-1:0]] <= data;
    if (rst) count <= 0;
    else if (we) count <= count + 1;
    if (dump && count != 0) $writememh(FILE, mem, 0, (count < DEPTH ? count : DEPTH) - 1);
  end
endmodule
