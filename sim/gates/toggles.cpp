// Counters of the gate netlist, called at every edge of the clock: 64 nets at a time, bit-sliced.
// A word holds what its nets are in this cycle. In a cycle that counts, each net that differs from
// the cycle before (or, of levels, each that is 1) adds one. The counts are written at the end.
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {
constexpr int kPlanes = 24;
struct Word {
  uint64_t past = 0;
  uint64_t plane[kPlanes] = {};
};
std::vector<Word> words;
}  // namespace

extern "C" void gyre_count(int index, unsigned char on, unsigned char level, uint64_t nets) {
  const size_t place = static_cast<size_t>(index);
  if (place >= words.size()) words.resize(place + 1);
  Word& word = words[place];
  if (on) {
    uint64_t carry = level ? nets : nets ^ word.past;
    for (int n = 0; carry && n < kPlanes; ++n) {
      const uint64_t both = word.plane[n] & carry;
      word.plane[n] ^= carry;
      carry = both;
    }
  }
  word.past = nets;
}

extern "C" void gyre_write() {
  std::FILE* file = std::fopen("toggles.txt", "w");
  if (!file) return;
  for (size_t n = 0; n < words.size(); ++n) {
    std::fprintf(file, "%zu", n);
    for (const uint64_t plane : words[n].plane) {
      std::fprintf(file, " %llx", static_cast<unsigned long long>(plane));
    }
    std::fprintf(file, "\n");
  }
  std::fclose(file);
}
