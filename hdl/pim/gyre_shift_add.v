// What stands behind the converters of macros: the codes of an output's slices, shifted and added,
// then the bits of the activations, the highest first, by doubling. All of it stands behind enables,
// and a simulator goes over many macros in a loop.
module gyre_shift_add #(
    parameter CONVERTERS = 1,
    parameter SHARE = 1,       // turns of the converters
    parameter PHASE_BITS = 1,
    parameter O_LANE = 8,      // bits of a code's field
    parameter SIGNED = 0,      // 1: codes have a sign
    parameter MACROS = 1,
    parameter O_STRIDE = 8,    // bits from a macro's codes to the next one's
    parameter OUTPUTS = 1,     // of a macro
    parameter SLICES = 1,      // codes of an output, the lowest first
    parameter STEP = 1,        // bits from a slice to the next
    parameter SIGN = 0,        // 1: the last slice counts negative, by SIGN_STEP bits
    parameter SIGN_STEP = 0,
    parameter WIDTH = 32,      // 32 or 64 bits, which hold any sum
    parameter CODE_BITS = 1,   // of a converter's number
    parameter COLUMNS = ""     // where the codes of each macro are: {turn, converter}; else in order
) (
    input wire clk,
    input wire rst,
    input wire en,
    input wire valid,
    input wire [PHASE_BITS-1:0] phase,
    input wire [(MACROS-1)*O_STRIDE+CONVERTERS*O_LANE-1:0] o,
    input wire first,     // of the bits that are complete in this cycle
    input wire negative,  // it counts negative
    input wire last,
    output reg [MACROS*OUTPUTS*WIDTH-1:0] sums
);
  /* verilator no_inline_module */  // the code of many stays in the processor's cache
  reg complete;  // the codes of an evaluation are added up
  reg [WIDTH-1:0] part[0:MACROS*OUTPUTS-1];
  reg [WIDTH-1:0] total[0:MACROS*OUTPUTS-1];
  reg [MACROS*OUTPUTS*WIDTH-1:0] gathered;

  localparam CODES = OUTPUTS * SLICES;
  localparam MOVED = COLUMNS != "";
  reg [PHASE_BITS+CODE_BITS-1:0] columns[0:(MOVED ? MACROS*CODES : 1)-1];
  generate
    if (MOVED) begin : moved
      initial $readmemh(COLUMNS, columns);
    end else begin : fixed
      initial columns[0] = 0;
    end
  endgenerate

  // The bits of outputs whose slices are added up, of macro m.
  task automatic double(input integer m);
    integer n, at;
    reg [WIDTH-1:0] sum;
    for (n = 0; n < OUTPUTS; n = n + 1) begin
      at = m * OUTPUTS + n;
      sum = first ? {WIDTH{1'b0}} : total[at] << 1;
      sum = negative ? sum - part[at] : sum + part[at];
      total[at] = sum;
      gathered[at*WIDTH+:WIDTH] = sum;
    end
  endtask

  // A code of macro m at the worth of its slice.
  function automatic [WIDTH-1:0] worth(input integer m, input integer converter, input integer slice);
    reg [WIDTH-1:0] code;
    begin
      code = {
        {(WIDTH - O_LANE) {SIGNED != 0 && o[m*O_STRIDE+converter*O_LANE+O_LANE-1]}},
        o[m*O_STRIDE+converter*O_LANE+:O_LANE]
      };
      worth = SIGN != 0 && slice == SLICES - 1 ? -(code << SIGN_STEP) : code << (slice * STEP);
    end
  endfunction

  // The codes of a turn, of macro m.
  task automatic joined(input integer m);
    integer p, j, q, at;
    for (p = 0; p < SHARE; p = p + 1)
      if (SHARE == 1 || phase == p)
        for (j = 0; j < CONVERTERS; j = j + 1) begin
          q = p * CONVERTERS + j;
          if (q < OUTPUTS * SLICES) begin
            at = m * OUTPUTS + q / SLICES;
            part[at] = q % SLICES == 0 ? worth(m, j, q % SLICES)
                : part[at] + worth(m, j, q % SLICES);
          end
        end
  endtask

  // The same where columns were moved: an output's codes come in any order, in any turn.
  task automatic gathered_codes(input integer m);
    integer q, at;
    reg [WIDTH-1:0] sum;
    reg [PHASE_BITS+CODE_BITS-1:0] column;
    for (at = 0; at < OUTPUTS; at = at + 1) begin
      sum = phase == 0 ? {WIDTH{1'b0}} : part[m*OUTPUTS+at];
      for (q = 0; q < SLICES; q = q + 1) begin
        column = columns[m*CODES+at*SLICES+q];
        if (SHARE == 1 || column[CODE_BITS+:PHASE_BITS] == phase)
          sum = sum + worth(m, column[CODE_BITS-1:0], q);
      end
      part[m*OUTPUTS+at] = sum;
    end
  endtask

  integer n;
  always @(posedge clk)
    if (rst) complete <= 1'b0;
    else if (en) begin
      if (complete) begin
        /* verilator unroll_disable */
        for (n = 0; n < MACROS; n = n + 1) double(n);
        if (last) sums <= gathered;
      end
      if (valid) begin
        /* verilator unroll_disable */
        for (n = 0; n < MACROS; n = n + 1)
          if (MOVED) gathered_codes(n);
          else joined(n);
      end
      complete <= valid && (SHARE == 1 || phase == SHARE - 1);
    end
endmodule
