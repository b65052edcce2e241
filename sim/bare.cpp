// A harness with no Python in it: the yardstick for the speed of the same model under cocotb.
// Arguments: words expected settle. Prints the cycles run and the seconds of the processor they took.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>

#include "Vtop.h"
#include "verilated.h"

static uint64_t now = 0;
double sc_time_stamp() { return static_cast<double>(now); }

int main(int argc, char** argv) {
  VerilatedContext context;
  context.commandArgs(argc, argv);
  auto top = std::make_unique<Vtop>(&context);
  top->clk = 0;
  top->rst = 1;
  top->words = std::atoi(argv[1]);
  top->expected = std::atoi(argv[2]);
  top->settle = std::atoi(argv[3]);
  top->stall_i = 0;
  top->stall_o = 0;
  top->seed = 1;
  top->eval();
  const std::clock_t begin = std::clock();
  while (!top->done) {
    now += 5;
    top->clk = !top->clk;
    if (now > 47) top->rst = 0;
    top->eval();
  }
  const double took = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  std::printf("%llu %.6f\n", (unsigned long long)top->cycle, took);
  top->final();
  return top->done ? 0 : 1;
}
