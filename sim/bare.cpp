// A harness with no Python in it: the yardstick for the speed of the same model under cocotb.
// Arguments: words expected settle. Prints the cycles run and the seconds they took.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "Vtop.h"
#include "verilated.h"

static uint64_t now = 0;
double sc_time_stamp() { return static_cast<double>(now); }

int main(int argc, char** argv) {
  VerilatedContext context;
  context.commandArgs(argc, argv);
  auto top = std::make_unique<Vtop>(&context);
  top->rst = 1;
  top->words = std::atoi(argv[1]);
  top->expected = std::atoi(argv[2]);
  top->settle = std::atoi(argv[3]);
  top->stall_i = 0;
  top->stall_o = 0;
  top->seed = 1;
  top->eval();
  const auto begin = std::chrono::steady_clock::now();
  while (!top->done && top->eventsPending()) {
    now = top->nextTimeSlot();
    if (now > 47) top->rst = 0;
    top->eval();
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%llu %.6f\n", (unsigned long long)top->cycle, took.count());
  top->final();
  return top->done ? 0 : 1;
}
