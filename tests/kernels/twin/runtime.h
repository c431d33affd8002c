// A small CUDA machine on one CPU thread: the threads of a block are fibers, a warp runs as far as it can before the next one.
#pragma once

#include <cstdint>

// What a launch asks for, and how it ended; the same fields as in machine.py.
struct TwinLaunch {
    uint64_t blocks, first, count;          // grid; the blocks to run, from `first` on
    uint64_t code;                          // answer: where an error was met, as an offset in the library
    uint32_t threads, shared_bytes, order;  // 0 forward, 1 reversed, else a seed
    uint32_t jitter;                        // approximate instructions err by up to 2 units in the last place
    uint32_t seconds;                       // limit
    char error[504];                        // answer: empty when all went well
};

namespace twin {

struct Index { int x; };
enum { GROUP = 32 };  // an exchange with 32 * width + n: every group of so many lanes reads the n-th of them
enum State { READY, AT_BARRIER, AT_WARP, DONE };

struct Fiber {
    Index index;
    State state;
    void* stack;       // pointer kept while another one runs
    int line;          // of the barrier or exchange it waits at
    uint32_t mask, value, result;
    int lanes;         // of the exchange, to whose lane number it is xored; -1 for a warp barrier
};

extern Fiber* current;
extern Index block, block_size;
extern void* shared;
extern uint32_t shared_bytes;
extern bool jitter;
extern uint32_t block_epoch, warp_epoch[32];
extern uint64_t block_number;
extern uintptr_t arguments_start, arguments_end;

int run(const char* name, const void* arguments, unsigned size, unsigned expected, unsigned max_threads,
        TwinLaunch* launch, void (*body)(const void*));
void barrier(int line);
void warp_barrier(int line);
uint32_t exchange(uint32_t mask, uint32_t value, int lanes, int line);
void aligned(const void* p, unsigned bytes);
[[noreturn]] void fail(const void* address, const char* format, ...);

bool on_stack(const void* p);  // of the running fiber
// The checker's; empty in the plain build.
void checker_launch();
void checker_wide(const void* p, unsigned bytes, const void* code);

}  // namespace twin
