// Macros of non-volatile cells that count along their bit lines: ROWS × COLUMNS cells with levels of
// BITS bits. All of it stands behind enables, so that macros which are neither evaluated nor written
// cost a simulator the test of a bit. The MACROS of a bank work in lock step and are written one by
// one; TILES sets of word lines go to them, macro n's being number n in TILE_OF. A simulator goes
// over many macros in a loop, so that it has to build the code of one.
//
// Counting is bit-sliced carry-save: a word holds one bit of the cells of 64 columns, and a full
// adder of words works on 64 columns at once (Harley and Seal's counter). At the end the planes of
// bits become lanes of LANE bits, one per column, by swapping blocks of bits. For that, column i of
// 64 stands at place (i % PER) * LANE + i / PER of its word, PER = 64 / LANE; in FILE and STUCK too.
module gyre_macro #(
    parameter ROWS = 8,
    parameter COLUMNS = 8,      // with the reference column, which is the last
    parameter BITS = 1,
    parameter ROW_BITS = 3,     // of a row's address
    parameter LANE = 8,         // 8, 16 or 32 bits, which hold any count
    parameter REFERENCE = 0,    // 1: the last column's count is taken from each other column's
    parameter PAIRS = 0,        // 1: a result is the count of column 2n less that of 2n + 1
    parameter RESULTS = 8,      // of an evaluation
    parameter SHARE = 1,        // results that one converter gives, one a cycle
    parameter CONVERTERS = 8,   // ceil(RESULTS / SHARE)
    parameter PHASE_BITS = 1,
    parameter O_LANE = 8,       // 8, 16 or 32 bits, which hold any result
    parameter ADC = 0,          // 1: result = clamp(floor((count + STEP / 2) / STEP), LOW, HIGH)
    parameter BIAS = 0,         // floor(STEP / 2) + OFFSET * STEP
    parameter OFFSET = 0,       // makes that which is divided no less than 0
    parameter [31:0] RECIPROCAL = 1,   // floor(v / STEP) = v * RECIPROCAL >> SHIFT for every v that occurs
    parameter SHIFT = 0,
    parameter signed [31:0] LOW = 0,
    parameter signed [31:0] HIGH = 0,
    parameter WRITE_CYCLES = 1,
    parameter FAILURES = 0,     // of 65536 pulses, those that leave some cells as they were
    parameter ENDURANCE = 0,    // pulses that a row bears; 0: any number
    parameter FILE = "",        // contents at the start, those of the stuck cells among them
    parameter PROGRAMMED = 0,   // 1: every row of FILE counts as programmed
    parameter STUCK = "",       // cells that never change
    parameter MACROS = 1,
    parameter NUMBER_BITS = 1,  // of a macro's number
    parameter TILES = 1,
    parameter TILE_BITS = 1,
    parameter [MACROS*TILE_BITS-1:0] TILE_OF = 0,
    parameter O_STRIDE = CONVERTERS * O_LANE  // bits from a macro's results to the next one's
) (
    input wire clk,
    input wire rst,
    input wire en,
    input wire start,
    input wire [TILES*ROWS-1:0] x,
    output reg valid,
    output reg [PHASE_BITS-1:0] phase,
    output wire [(MACROS-1)*O_STRIDE+CONVERTERS*O_LANE-1:0] o,
    input wire [NUMBER_BITS-1:0] number,  // of the macro that is written
    input wire load,
    input wire write,
    input wire verify,
    input wire [ROW_BITS-1:0] row,
    input wire [COLUMNS*BITS-1:0] levels,
    input wire [31:0] seed,
    output reg match,
    output reg [COLUMNS*BITS-1:0] found,
    output reg blank,
    output reg unprogrammed,
    output reg worn,
    output reg clash
);
  /* verilator no_inline_module */  // the code of many macros stays in the processor's cache
  localparam CHUNKS = (COLUMNS + 63) / 64;
  localparam SPAN = 8 * ((ROWS + 7) / 8);  // rows, filled up to whole blocks of 8
  localparam ROW_WORDS = BITS * CHUNKS;
  localparam PER = 64 / LANE;
  localparam O_PER = 64 / O_LANE;
  localparam DIRECT = REFERENCE == 0 && PAIRS == 0 && ADC == 0 && SHARE == 1 && O_LANE == LANE;
  localparam O_WORDS = (CONVERTERS + O_PER - 1) / O_PER;
  localparam STRIDE = 64 * (DIRECT ? CHUNKS * LANE : O_WORDS);
  localparam CELL_WORDS = SPAN * ROW_WORDS;  // of a macro

  reg [63:0] cells[0:MACROS*CELL_WORDS-1];  // word (row * BITS + bit) * CHUNKS + chunk
  reg [63:0] stuck[0:(STUCK != "" ? MACROS*SPAN*CHUNKS : 1)-1];
  reg [31:0] wear[0:(ENDURANCE != 0 ? MACROS*ROWS : 1)-1];  // pulses that a row has had
  reg [MACROS*ROWS-1:0] programmed;

  // What survives a reset: here it begins, and no reset touches it.
  integer i;
  initial begin
    programmed = {(MACROS * ROWS) {PROGRAMMED != 0}};
    blank = PROGRAMMED == 0;
    for (i = 0; i < (ENDURANCE != 0 ? MACROS * ROWS : 1); i = i + 1) wear[i] = 32'd0;
  end
  // Some tools read a module with its default parameters before they place it.
  generate
    if (FILE != "") begin : contents
      initial $readmemh(FILE, cells);
    end else begin : virgin
      integer w;
      initial for (w = 0; w < MACROS * CELL_WORDS; w = w + 1) cells[w] = 64'd0;
    end
    if (STUCK != "") begin : faults
      initial $readmemh(STUCK, stuck);
    end else begin : sound
      initial stuck[0] = 64'd0;
    end
  endgenerate

`define GYRE_ADD(high, low, a, b) \
  first = a; \
  second = b; \
  u = low ^ first; \
  high = (low & first) | (u & second); \
  low = u ^ second;
`define GYRE_LINE(k) (cells[at+(k)*ROW_WORDS] & {64{own[r+(k)]}})
// No count so far is more than `most`: bits above it are 0.
`define GYRE_CARRY(from, word, most) \
  carry = word; \
  for (k = from; k < LANE && ((most) >> k) != 0; k = k + 1) begin \
    u = t[k] & carry; \
    t[k] = t[k] ^ carry; \
    carry = u; \
  end

  reg [TILES*ROWS-1:0] lines;  // the word lines' drivers
  reg driven;
  reg [7:0] gap;  // cycles until the converters are free
  reg [MACROS*STRIDE-1:0] results, gathered;
  assign o = results[(MACROS-1)*O_STRIDE+CONVERTERS*O_LANE-1:0];
  reg counted;
  reg [PHASE_BITS-1:0] turn;
  reg [63:0] held[0:(DIRECT ? 1 : MACROS*CHUNKS*LANE)-1];  // counts, in words of PER lanes

  integer m;
  reg [15:0] timer;
  reg [31:0] random;

  always @(posedge clk)
    if (rst) begin
      driven <= 1'b0;
      counted <= 1'b0;
      valid <= 1'b0;
      turn <= 0;
      gap <= 8'd0;
      unprogrammed <= 1'b0;
      clash <= 1'b0;
    end else if (en) begin
      driven <= start;
      if (DIRECT) valid <= driven;
      else begin
        valid <= counted;
        if (driven) begin
          counted <= 1'b1;
          turn <= 0;
        end else if (counted) begin
          turn <= turn + 1;
          if (turn == SHARE - 1) counted <= 1'b0;
        end
      end
      if (gap != 0) gap <= gap - 1;
      if (start) begin
        lines <= x;
        gap <= SHARE - 1;
        if (gap != 0 || write || load) clash <= 1'b1;
        if (blank)
          for (m = 0; m < MACROS; m = m + 1)
            if (|(x[TILE_OF[m*TILE_BITS+:TILE_BITS]*ROWS+:ROWS] & ~programmed[m*ROWS+:ROWS]))
              unprogrammed <= 1'b1;
      end
    end

  // The cells of macro n on driven word lines, counted.
  task automatic count(input integer n);
    integer c, b, r, k, s, at;
    reg [SPAN-1:0] own;
    reg [63:0] t[0:LANE-1];
    reg [63:0] u, first, second, carry, mask, ones, twos, fours, two_a, two_b, four_a, four_b, eight;
    begin
      own = 0;
      own[ROWS-1:0] = lines[TILE_OF[n*TILE_BITS+:TILE_BITS]*ROWS+:ROWS];
      for (c = 0; c < CHUNKS; c = c + 1) begin
        for (k = 0; k < LANE; k = k + 1) t[k] = 64'd0;
        for (b = 0; b < BITS; b = b + 1) begin
          ones = 64'd0;
          twos = 64'd0;
          fours = 64'd0;
          for (r = 0; r < SPAN; r = r + 8) begin
            at = n * CELL_WORDS + (r * BITS + b) * CHUNKS + c;
            `GYRE_ADD(two_a, ones, `GYRE_LINE(0), `GYRE_LINE(1))
            `GYRE_ADD(two_b, ones, `GYRE_LINE(2), `GYRE_LINE(3))
            `GYRE_ADD(four_a, twos, two_a, two_b)
            `GYRE_ADD(two_a, ones, `GYRE_LINE(4), `GYRE_LINE(5))
            `GYRE_ADD(two_b, ones, `GYRE_LINE(6), `GYRE_LINE(7))
            `GYRE_ADD(four_b, twos, two_a, two_b)
            `GYRE_ADD(eight, fours, four_a, four_b)
            `GYRE_CARRY(b + 3, eight, ROWS * ((1 << b) - 1) + ((r + 8) << b))
          end
          `GYRE_CARRY(b, ones, SPAN * ((2 << b) - 1))
          `GYRE_CARRY(b + 1, twos, SPAN * ((2 << b) - 1))
          `GYRE_CARRY(b + 2, fours, SPAN * ((2 << b) - 1))
        end
        // Swap the bits whose place has bit s set with those of the word s further on.
        for (s = 1; s < LANE; s = s * 2) begin
          mask = 64'd0;
          for (k = 0; k < 64; k = k + 1) if ((k & s) == 0) mask[k] = 1'b1;
          for (k = 0; k < LANE; k = k + 1)
            if ((k & s) == 0) begin
              u = ((t[k] >> s) ^ t[k+s]) & mask;
              t[k+s] = t[k+s] ^ u;
              t[k] = t[k] ^ (u << s);
            end
        end
        for (k = 0; k < LANE; k = k + 1)
          if (DIRECT) gathered[n*STRIDE+(c*LANE+k)*64+:64] = t[k];
          else held[(n*CHUNKS+c)*LANE+k] = t[k];
      end
    end
  endtask

  // The converters of macro n: its results number turn * CONVERTERS + j.
  task automatic convert(input integer n);
    integer p, q, j, base;
    reg signed [63:0] v, reference;
    reg [63:0] word;
    begin
      base = n * CHUNKS * LANE;
      reference = 64'sd0;
      if (REFERENCE != 0)
        reference = held[base+(COLUMNS-1)/PER] >> (LANE * ((COLUMNS - 1) % PER))
            & ((64'd1 << LANE) - 1);
      for (p = 0; p < O_WORDS; p = p + 1) begin
        word = 64'd0;
        for (j = 0; j < O_PER; j = j + 1) begin
          q = turn * CONVERTERS + p * O_PER + j;
          if (p * O_PER + j < CONVERTERS && q < RESULTS) begin
            if (PAIRS != 0) q = 2 * q;
            v = held[base+q/PER] >> (LANE * (q % PER)) & ((64'd1 << LANE) - 1);
            if (PAIRS != 0)
              v = v
                  - $signed(held[base+(q+1)/PER] >> (LANE * ((q + 1) % PER)) & ((64'd1 << LANE) - 1));
            v = v - reference;
            if (ADC != 0) begin
              v = (((v + BIAS) * RECIPROCAL) >>> SHIFT) - OFFSET;
              if (v < LOW) v = LOW;
              if (v > HIGH) v = HIGH;
            end
            word = word | (v & ((64'd1 << O_LANE) - 1)) << (O_LANE * j);
          end
        end
        gathered[n*STRIDE+p*64+:64] = word;
      end
    end
  endtask

  // What the converters hold is taken before it changes.
  integer n;
  generate
    if (MACROS == 1) begin : alone
      always @(posedge clk)
        if (en) begin
          if (!DIRECT && counted) convert(0);
          if (driven) count(0);
          if (DIRECT ? driven : counted) results <= gathered;
        end
    end else begin : together
      always @(posedge clk)
        if (en) begin
          if (!DIRECT && counted) begin
            /* verilator unroll_disable */
            for (n = 0; n < MACROS; n = n + 1) convert(n);
          end
          if (driven) begin
            /* verilator unroll_disable */
            for (n = 0; n < MACROS; n = n + 1) count(n);
          end
          if (DIRECT ? driven : counted) results <= gathered;
        end
    end
  endgenerate
  always @(posedge clk)
    if (rst) phase <= 0;
    else if (en && !DIRECT && counted) phase <= turn;

  // Rows are seldom written: these loops stay loops in a simulator.
  integer e, f, g, to;
  reg [63:0] keep, put, next;
  reg [COLUMNS*BITS-1:0] seen;
  reg failed, dead;
  /* verilator lint_off BLKSEQ */  // variables of this block alone
  always @(posedge clk) begin
    // A row at the end of its pulse: cells that are stuck, that the pulse fails to switch, or of a
    // row that is worn out keep their level.
    if (rst) begin
      timer <= 16'd0;
      random <= seed == 0 ? 32'd1 : seed;
      worn <= 1'b0;
    end else if (write && timer != WRITE_CYCLES - 1) timer <= timer + 1;
    else if (timer != 0) timer <= 16'd0;
    if (!rst && (load || write && timer == WRITE_CYCLES - 1)) begin
      failed = 1'b0;
      dead = 1'b0;
      if (!load) begin
        // Marsaglia's shift register of 32 bits, three shifts a pulse.
        next = random;
        next = (next ^ next << 13) & 64'hffffffff;
        next = next ^ next >> 17;
        next = (next ^ next << 5) & 64'hffffffff;
        random <= next[31:0];
        failed = FAILURES != 0 && next[15:0] < FAILURES;
        if (ENDURANCE != 0) begin
          /* verilator lint_off UNSIGNED */  // without an endurance this is never reached
          dead = wear[number*ROWS+row] >= ENDURANCE;
          /* verilator lint_on UNSIGNED */
          if (dead) worn <= 1'b1;
          else wear[number*ROWS+row] <= wear[number*ROWS+row] + 1;
        end
      end
      /* verilator unroll_disable */
      for (e = 0; e < CHUNKS; e = e + 1) begin
        keep = dead ? ~64'd0 : 64'd0;
        if (STUCK != "") keep = keep | stuck[(number*SPAN+row)*CHUNKS+e];
        if (failed) begin
          /* verilator unroll_disable */
          for (g = 0; g < 64; g = g + 1)
            keep[(g%PER)*LANE+g/PER] = keep[(g%PER)*LANE+g/PER] | next[16+g%16];
        end
        /* verilator unroll_disable */
        for (f = 0; f < BITS; f = f + 1) begin
          put = 64'd0;
          /* verilator unroll_disable */
          for (g = 0; g < 64; g = g + 1)
            if (e * 64 + g < COLUMNS) put[(g%PER)*LANE+g/PER] = levels[(e*64+g)*BITS+f];
          to = number * CELL_WORDS + (row * BITS + f) * CHUNKS + e;
          cells[to] <= (cells[to] & keep) | (put & ~keep);
        end
      end
      programmed[number*ROWS+row] <= 1'b1;
      blank <= ~&(programmed | ({{(MACROS * ROWS - 1) {1'b0}}, 1'b1} << (number * ROWS + row)));
    end

    if (verify) begin
      /* verilator unroll_disable */
      for (g = 0; g < COLUMNS; g = g + 1) begin  // a simulator takes the pragma for a statement
        /* verilator unroll_disable */
        for (f = 0; f < BITS; f = f + 1)
          seen[g*BITS+f] = cells[number*CELL_WORDS+(row*BITS+f)*CHUNKS+g/64][(g%64%PER)*LANE+g%64/PER];
      end
      found <= seen;
      match <= seen == levels;
    end
  end
  /* verilator lint_on BLKSEQ */
`undef GYRE_ADD
`undef GYRE_LINE
`undef GYRE_CARRY
endmodule
