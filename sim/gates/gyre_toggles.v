// Counts for each of 64 nets in how many cycles of `on` its value differs from that of the cycle
// before (or, with `level`, is 1), in bit-sliced counters, and writes the counts at the end.
module gyre_toggles (
    input wire clk,
    input wire on,
    input wire level,
    input wire [31:0] index,
    input wire [63:0] nets
);
  /*verilator no_inline_module*/
  reg [63:0] past;
  reg [63:0] p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14, p15, p16, p17;
  wire [63:0] c0 = on ? (level ? nets : nets ^ past) : 64'd0;
  wire [63:0] c1 = p0 & c0;
  wire [63:0] c2 = p1 & c1;
  wire [63:0] c3 = p2 & c2;
  wire [63:0] c4 = p3 & c3;
  wire [63:0] c5 = p4 & c4;
  wire [63:0] c6 = p5 & c5;
  wire [63:0] c7 = p6 & c6;
  wire [63:0] c8 = p7 & c7;
  wire [63:0] c9 = p8 & c8;
  wire [63:0] c10 = p9 & c9;
  wire [63:0] c11 = p10 & c10;
  wire [63:0] c12 = p11 & c11;
  wire [63:0] c13 = p12 & c12;
  wire [63:0] c14 = p13 & c13;
  wire [63:0] c15 = p14 & c14;
  wire [63:0] c16 = p15 & c15;
  wire [63:0] c17 = p16 & c16;
  integer file;
  initial begin
    {p0, p1, p2, p3, p4, p5, p6, p7, p8} = 0;
    {p9, p10, p11, p12, p13, p14, p15, p16, p17} = 0;
  end
  always @(posedge clk) begin
    past <= nets;
    p0 <= p0 ^ c0;
    p1 <= p1 ^ c1;
    p2 <= p2 ^ c2;
    p3 <= p3 ^ c3;
    p4 <= p4 ^ c4;
    p5 <= p5 ^ c5;
    p6 <= p6 ^ c6;
    p7 <= p7 ^ c7;
    p8 <= p8 ^ c8;
    p9 <= p9 ^ c9;
    p10 <= p10 ^ c10;
    p11 <= p11 ^ c11;
    p12 <= p12 ^ c12;
    p13 <= p13 ^ c13;
    p14 <= p14 ^ c14;
    p15 <= p15 ^ c15;
    p16 <= p16 ^ c16;
    p17 <= p17 ^ c17;
  end
  final begin
    file = $fopen("toggles.txt", "a");
    $fwrite(file, "%0d %x %x %x %x %x %x", index, p0, p1, p2, p3, p4, p5);
    $fwrite(file, " %x %x %x %x %x %x", p6, p7, p8, p9, p10, p11);
    $fwrite(file, " %x %x %x %x %x %x\n", p12, p13, p14, p15, p16, p17);
    $fclose(file);
  end
endmodule
