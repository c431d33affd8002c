// See runtime.h. One OS thread, plain globals. Errors are recorded and the launch abandoned; nothing ends the process.
#include "runtime.h"

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

namespace twin {

Fiber* current;
Index block, block_size;
void* shared;
uint32_t shared_bytes;
bool jitter;
uint32_t block_epoch, warp_epoch[32];
uint64_t block_number;
uintptr_t arguments_start, arguments_end;

namespace {

constexpr size_t PAGE = 4096, STACK = 64 << 10;
constexpr int MOST_THREADS = 128;  // of our kernels; each costs two of the mappings that Linux counts

Fiber fibers[MOST_THREADS];
char* stacks;  // one after another, each above a guard page
void* scheduler_stack;
const void* kernel_arguments;
void (*kernel_body)(const void*);
TwinLaunch* launch;
sigjmp_buf escape;
uint32_t random_state;

extern "C" void twin_switch(void** keep, void* go);
asm(R"(
    .text
    .type twin_switch, @function
twin_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");

void back_to_scheduler() { twin_switch(&current->stack, scheduler_stack); }

void fiber_main() {
    kernel_body(kernel_arguments);
    current->state = DONE;
    back_to_scheduler();
    __builtin_unreachable();
}

char* stack_of(int thread) { return stacks + thread * (STACK + PAGE) + PAGE; }

void start(Fiber& fiber, int thread) {
    fiber = {{thread}, READY, nullptr, 0, 0, 0, 0, 0};
    void** top = reinterpret_cast<void**>(stack_of(thread) + STACK) - 2;  // 16-byte aligned after the return
    *top = reinterpret_cast<void*>(fiber_main);
    fiber.stack = top - 6;
    memset(fiber.stack, 0, 6 * sizeof(void*));
}

uint32_t random_below(uint32_t n) {
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

void arrange(int* order, int n) {
    for (int i = 0; i < n; ++i) order[i] = launch->order == 1 ? n - 1 - i : i;
    for (int i = n; launch->order > 1 && i > 1; --i) {
        int other = random_below(i), kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}

// Runs the lanes of a warp until none is ready.
bool run_warp(int warp) {
    int order[32], first = warp * 32, lanes = block_size.x - first < 32 ? block_size.x - first : 32;
    bool ran = false, again = true;
    arrange(order, lanes);
    while (again) {
        again = false;
        for (int i = 0; i < lanes; ++i) {
            Fiber& fiber = fibers[first + order[i]];
            if (fiber.state != READY) continue;
            current = &fiber;
            twin_switch(&scheduler_stack, fiber.stack);
            ran = again = true;
        }
    }
    return ran;
}

void describe_and_fail() {
    char text[400] = "";
    size_t used = 0;
    for (int i = 0; i < block_size.x && used < 300; ++i) {
        const Fiber &f = fibers[i], &before = fibers[i ? i - 1 : 0];
        if (i && f.state == before.state && f.line == before.line && f.mask == before.mask) continue;
        const char* what = f.state == DONE ? "has left" : f.state == AT_BARRIER ? "at the barrier" : "in a warp operation";
        used += snprintf(text + used, sizeof text - used, "[from thread %d: %s, line %d, mask %x] ", i, what, f.line, f.mask);
    }
    fail(nullptr, "threads wait for each other: %s", text);
}

// Lets everybody pass a barrier that everybody has reached.
void release_barrier() {
    for (int i = 0; i < block_size.x; ++i)
        if (fibers[i].state != AT_BARRIER || fibers[i].line != fibers[0].line) describe_and_fail();
    for (int i = 0; i < block_size.x; ++i) fibers[i].state = READY;
    ++block_epoch;
}

void run_block(uint64_t number) {
    block.x = block_number = number;
    block_epoch = 0;
    memset(warp_epoch, 0, sizeof warp_epoch);
    memset(shared, 0xff, shared_bytes);
    for (int i = 0; i < block_size.x; ++i) start(fibers[i], i);
    int warps = (block_size.x + 31) / 32, order[32];
    for (;;) {
        arrange(order, warps);
        bool ran = false, done = true;
        for (int i = 0; i < warps; ++i) ran |= run_warp(order[i]);
        for (int i = 0; i < block_size.x; ++i) done &= fibers[i].state == DONE;
        if (done) return;
        if (!ran) release_barrier();
    }
}

uint32_t full_mask(int warp) {
    int lanes = block_size.x - warp * 32;
    return lanes >= 32 ? ~0u : (1u << lanes) - 1;
}

// Waits until all lanes of `mask` are here; the last one hands out the results.
uint32_t meet(uint32_t mask, uint32_t value, int lanes, int line) {
    int thread = current->index.x, lane = thread % 32, warp = thread / 32;
    Fiber* of_warp = fibers + warp * 32;
    if (!(mask >> lane & 1)) fail(nullptr, "line %d: lane %d is not in its own mask %x", line, lane, mask);
    current->mask = mask, current->value = value, current->lanes = lanes, current->line = line;
    current->state = AT_WARP;
    bool complete = true;
    for (int i = 0; i < 32; ++i) {
        if (!(mask >> i & 1)) continue;
        const Fiber& f = of_warp[i];
        complete &= warp * 32 + i < block_size.x && f.state == AT_WARP && f.mask == mask && f.lanes == lanes && f.line == line;
    }
    if (!complete) {
        back_to_scheduler();
        return current->result;
    }
    for (int i = 0; i < 32; ++i) {
        if (!(mask >> i & 1)) continue;
        int source = lanes < 0 ? i : lanes < GROUP ? i ^ lanes : i / (lanes / GROUP) * (lanes / GROUP) + lanes % GROUP;
        if (!(mask >> source & 1)) fail(nullptr, "line %d: reads lane %d, which mask %x leaves out", line, source, mask);
        of_warp[i].result = of_warp[source].value;
        of_warp[i].state = READY;
    }
    if (lanes < 0) ++warp_epoch[warp];
    return current->result;
}

void on_signal(int signal, siginfo_t* info, void* context) {
    const void* code = reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
    int thread = current ? current->index.x : -1;
    if (signal == SIGALRM) fail(code, "still running after %u s, block %llu thread %d", launch->seconds, (unsigned long long)block_number, thread);
    if (signal == SIGILL) fail(code, "undefined behaviour, block %llu thread %d", (unsigned long long)block_number, thread);
    fail(code, "bad address %p, block %llu thread %d", info->si_addr, (unsigned long long)block_number, thread);
}

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGALRM};

void run_blocks() {
    uint64_t count = launch->count ? launch->count : launch->blocks - launch->first;
    for (uint64_t i = 0; i < count; ++i) run_block(launch->first + (launch->order == 1 ? count - 1 - i : i));
}

// Runs the blocks with faults caught on a stack of their own.
void guarded() {
    static char signal_stack[64 << 10];
    stack_t own = {signal_stack, 0, sizeof signal_stack}, old_stack;
    struct sigaction action = {}, old[4];
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaltstack(&own, &old_stack);
    for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &action, &old[i]);
    itimerval limit = {{}, {static_cast<time_t>(launch->seconds), 0}}, old_limit;
    setitimer(ITIMER_REAL, &limit, &old_limit);
    if (!sigsetjmp(escape, 1)) run_blocks();
    setitimer(ITIMER_REAL, &old_limit, nullptr);
    for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &old[i], nullptr);
    sigaltstack(&old_stack, nullptr);
}

}  // namespace

bool on_stack(const void* p) {
    const char* low = stack_of(current->index.x);
    return p >= low && p < low + STACK;
}

void fail(const void* address, const char* format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(launch->error, sizeof launch->error, format, values);
    va_end(values);
    Dl_info library;
    launch->code = address && dladdr(address, &library) ? (uint64_t)address - (uint64_t)library.dli_fbase : 0;
    siglongjmp(escape, 1);
}

void barrier(int line) {
    current->state = AT_BARRIER, current->line = line, current->mask = 0;
    back_to_scheduler();
}
void warp_barrier(int line) { meet(full_mask(current->index.x / 32), 0, -1, line); }
uint32_t exchange(uint32_t mask, uint32_t value, int lanes, int line) { return meet(mask, value, lanes, line); }

void aligned(const void* p, unsigned bytes) {
    if ((uintptr_t)p % bytes) fail(__builtin_return_address(0), "%u bytes at %p, which is not aligned", bytes, p);
    checker_wide(p, bytes, __builtin_return_address(0));
}

int run(const char* name, const void* arguments, unsigned size, unsigned expected, unsigned max_threads,
        TwinLaunch* wanted, void (*body)(const void*)) {
    launch = wanted;
    launch->error[0] = 0;
    const char* wrong = size != expected ? "size of the arguments"
                        : !launch->threads || launch->threads > max_threads || max_threads > MOST_THREADS ? "number of threads"
                        : launch->shared_bytes % 16 || launch->shared_bytes > 48 << 10 ? "shared memory" : nullptr;
    if (wrong) return snprintf(launch->error, sizeof launch->error, "%s: wrong %s", name, wrong);
    if (!stacks) {
        size_t bytes = MOST_THREADS * (STACK + PAGE);
        stacks = (char*)mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        for (int i = 0; i < MOST_THREADS; ++i) mprotect(stack_of(i) - PAGE, PAGE, PROT_NONE);
    }
    size_t pages = (launch->shared_bytes + PAGE - 1) / PAGE * PAGE;
    char* memory = (char*)mmap(nullptr, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory + pages, PAGE, PROT_NONE);
    shared = memory + pages - launch->shared_bytes;
    shared_bytes = launch->shared_bytes;
    block_size.x = launch->threads;
    jitter = launch->jitter;
    random_state = launch->order;
    kernel_arguments = arguments, kernel_body = body;
    arguments_start = (uintptr_t)arguments, arguments_end = arguments_start + size;
    checker_launch();
    guarded();
    munmap(memory, pages + PAGE);
    return launch->error[0] != 0;
}

}  // namespace twin
