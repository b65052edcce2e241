// The memories, as synthesis sees them.
(* blackbox *)
module gyre_rom #(
    parameter WIDTH = 1, parameter DEPTH = 1, parameter ADDR = 1, parameter FILE = ""
) (
    input clk, input en, input [ADDR-1:0] addr, output [WIDTH-1:0] data
);
endmodule
(* blackbox *)
module gyre_ram #(
    parameter WIDTH = 1, parameter DEPTH = 1, parameter ADDR = 1
) (
    input clk, input re, input [ADDR-1:0] ra, output [WIDTH-1:0] rd,
    input [WIDTH-1:0] we, input [ADDR-1:0] wa, input [WIDTH-1:0] wd
);
endmodule
