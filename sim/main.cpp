// The simulator's main program under cocotb. At each time it does what the VPI asks for, in the order
// of the standard's regions; while nothing but a timed callback waits, it only runs the model. It
// makes the clock: one in the design goes through the scheduler of delays twice a cycle, which takes
// as long as a macro of 16,384 cells.
//
// Options, in a build that can: --trace-file FILE writes a VCD; each --trace-scope LEVELS:SCOPE, an
// instance's path, keeps it to so many levels of that scope.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#include "verilated_vpi.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

static uint64_t now = 0;
double sc_time_stamp() { return static_cast<double>(now); }

extern "C" void vlog_startup_routines_bootstrap(void);

namespace {

constexpr uint64_t kHalfPeriod = 5;  // in the top's unit of time

bool call_value_changes() {
  bool any = false;
  while (VerilatedVpi::callValueCbs()) any = true;
  return any;
}

// Nothing waits for a change of a value, or for a region of this or the next time step.
bool only_timed_callbacks() {
  return !VerilatedVpi::hasCbs(cbValueChange) && !VerilatedVpi::hasCbs(cbReadWriteSynch) &&
         !VerilatedVpi::hasCbs(cbReadOnlySynch) && !VerilatedVpi::hasCbs(cbNextSimTime);
}

// One time step with all its regions.
void step(Vtop& top) {
  do {
    do {
      top.eval_step();
      VerilatedVpi::clearEvalNeeded();
      VerilatedVpi::doInertialPuts();
      call_value_changes();
    } while (VerilatedVpi::evalNeeded());
    VerilatedVpi::callCbs(cbReadWriteSynch);
    VerilatedVpi::doInertialPuts();
    call_value_changes();
  } while (VerilatedVpi::evalNeeded());
  top.eval_end_step();
  VerilatedVpi::callCbs(cbReadOnlySynch);
}

}  // namespace

int main(int argc, char** argv) {
  const char* trace_file = nullptr;
  std::vector<std::pair<int, std::string>> trace_scopes;
  for (int i = 1; i + 1 < argc; ++i) {
    if (!std::strcmp(argv[i], "--trace-file")) trace_file = argv[i + 1];
    if (!std::strcmp(argv[i], "--trace-scope")) {
      const std::string text = argv[i + 1];
      const size_t colon = text.find(':');
      trace_scopes.emplace_back(std::stoi(text.substr(0, colon)), text.substr(colon + 1));
    }
  }
  Verilated::commandArgs(argc, argv);
  auto top = std::make_unique<Vtop>("");  // no scope above the top
  Verilated::fatalOnVpiError(false);
#if VM_TRACE
  std::unique_ptr<VerilatedVcdC> trace;
  Verilated::traceEverOn(true);
  if (trace_file) {
    trace = std::make_unique<VerilatedVcdC>();
    for (const auto& [levels, scope] : trace_scopes) trace->dumpvars(levels, scope);
    top->trace(trace.get(), 99);
    trace->open(trace_file);
  }
#else
  (void)trace_file;
#endif
  vlog_startup_routines_bootstrap();
  VerilatedVpi::callCbs(cbStartOfSimulation);
  call_value_changes();

  uint64_t edge = kHalfPeriod;
  top->GYRE_CLOCK = 0;
  while (!Verilated::gotFinish()) {
    step(*top);
#if VM_TRACE
    if (trace) trace->dump(now);
#endif
    const uint64_t wanted = VerilatedVpi::cbNextDeadline();
#if VM_TRACE
    const bool fast = !trace && only_timed_callbacks();
#else
    const bool fast = only_timed_callbacks();
#endif
    for (; fast && edge < wanted && !Verilated::gotFinish(); edge += kHalfPeriod) {
      now = edge;
      top->GYRE_CLOCK = !top->GYRE_CLOCK;
      top->eval();
    }
    now = std::min(wanted, edge);
    if (now == edge) {
      top->GYRE_CLOCK = !top->GYRE_CLOCK;
      edge += kHalfPeriod;
    }
    VerilatedVpi::callCbs(cbNextSimTime);
    call_value_changes();
    VerilatedVpi::callTimedCbs();
    call_value_changes();
  }

  top->final();
  VerilatedVpi::callCbs(cbEndOfSimulation);
#if VM_TRACE
  if (trace) trace->close();
#endif
  return Verilated::threadContextp()->errorCount() > 0 ? 1 : 0;
}
