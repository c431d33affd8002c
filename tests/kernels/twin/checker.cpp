// Looks at every access of a kernel compiled with -fsanitize=thread: the calls that GCC inserts come here instead of to its
// own library. Found: out of bounds, misaligned, uninitialised, read-only memory written, races between threads and blocks.
#include "memory.h"
#include "runtime.h"
#include "traffic.h"

#include <algorithm>
#include <cstdio>
#include <link.h>
#include <unordered_map>

namespace twin {

namespace {

struct Visit {  // who touched a byte, and when
    uint64_t block = 0;  // launch and block, never 0
    int thread = -1;     // -2: several
    uint32_t epoch = 0, warp_epoch = 0;
};
struct Cell {
    Visit write, read;
    bool written = false;
};

std::vector<Cell> shared_cells;
std::unordered_map<uintptr_t, Cell> buffer_cells;
Traffic traffic;
int words_left[128];  // of a thread's wide access, which is one request of the GPU but several accesses here
uint64_t launches;
uintptr_t library_start, library_end;

int find_library(dl_phdr_info* info, size_t, void*) {
    uintptr_t here = (uintptr_t)&find_library;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& part = info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + part.p_vaddr;
        if (part.p_type != PT_LOAD || here < start || here >= start + part.p_memsz) continue;
        library_start = info->dlpi_addr;
        for (int j = 0; j < info->dlpi_phnum; ++j)
            if (info->dlpi_phdr[j].p_type == PT_LOAD)
                library_end = info->dlpi_addr + info->dlpi_phdr[j].p_vaddr + info->dlpi_phdr[j].p_memsz;
    }
    return 0;
}

Visit now() {
    int thread = current->index.x;
    return {launches << 40 | (block_number + 1), thread, block_epoch, warp_epoch[thread / 32]};
}

// Whether nothing orders an earlier visit before this one.
bool meets(const Visit& before, const Visit& visit) {
    if (before.block >> 40 != visit.block >> 40) return false;
    if (before.block != visit.block) return true;
    if (before.thread == visit.thread || before.epoch != visit.epoch) return false;
    bool same_warp = before.thread >= 0 && before.thread / 32 == visit.thread / 32;
    return !(same_warp && before.warp_epoch != visit.warp_epoch);
}

void look(Cell& cell, bool write, bool initialised, const char* name, uint64_t byte, const void* code) {
    Visit visit = now();
    unsigned long long at = byte;
    if (meets(cell.write, visit))
        fail(code, "race in '%s' byte %llu: %s what thread %d wrote, no barrier between", name, at, write ? "overwrites" : "reads", cell.write.thread);
    if (write) {
        if (cell.read.block && meets(cell.read, visit))
            fail(code, "race in '%s' byte %llu: overwrites what other threads read, no barrier between", name, at);
        cell.write = visit;
        cell.written = true;
        return;
    }
    if (!initialised && !cell.written) fail(code, "reads '%s' byte %llu, which was never written", name, at);
    bool together = cell.read.block == visit.block && cell.read.epoch == visit.epoch && cell.read.thread != visit.thread;
    cell.read = visit;
    if (together) cell.read.thread = -2;
}

void touch_shared(uint64_t offset, unsigned bytes, bool write, const void* code) {
    uint64_t block = launches << 40 | (block_number + 1);
    for (unsigned i = 0; i < bytes; ++i) {
        Cell& cell = shared_cells[offset + i];
        if (cell.write.block != block) cell.written = false;
        if (cell.write.block != block) cell.write = {};
        if (cell.read.block != block) cell.read = {};
        look(cell, write, false, "shared memory", offset + i, code);
    }
}

void touch_buffer(const Buffer& buffer, uint64_t offset, unsigned bytes, bool write, const void* code) {
    if (write && !buffer.writable) fail(code, "writes '%s', an input", buffer.name);
    for (unsigned i = 0; i < bytes; ++i) {
        if (!buffer.writable) break;
        look(buffer_cells[(uintptr_t)buffer.start + offset + i], write, buffer.initialised, buffer.name, offset + i, code);
    }
}

void note_traffic(uintptr_t at, unsigned bytes, bool in_shared, const void* code) {
    int& left = words_left[current->index.x];
    if (left) --left;
    else traffic.add((uint64_t)code - library_start, current->index.x, in_shared, at, bytes);
}

void touch(const void* p, unsigned bytes, bool write, const void* code) {
    if (!current) return;
    uintptr_t at = (uintptr_t)p, memory = (uintptr_t)shared;
    if (on_stack(p) || (at >= library_start && at < library_end)) return;
    if (at >= arguments_start && at + bytes <= arguments_end && !write) return;
    if (at % (bytes & -bytes)) fail(code, "%u bytes at %p, which is not aligned", bytes, p);
    bool in_shared = at >= memory && at + bytes <= memory + shared_bytes;
    note_traffic(at, bytes, in_shared, code);
    if (in_shared) return touch_shared(at - memory, bytes, write, code);
    const Buffer* nearest = nullptr;
    for (const Buffer& buffer : buffers) {
        uintptr_t start = (uintptr_t)buffer.start;
        if (at >= start && at + bytes <= start + buffer.bytes) return touch_buffer(buffer, at - start, bytes, write, code);
        if (at >= start && (!nearest || start > (uintptr_t)nearest->start)) nearest = &buffer;
    }
    const char* verb = write ? "writes" : "reads";
    if (!nearest) fail(code, "%s %u bytes outside every buffer", verb, bytes);
    long long past = at - (uintptr_t)nearest->start - nearest->bytes;
    fail(code, "%s %u bytes, %lld bytes past the end of '%s'", verb, bytes, past, nearest->name);
}

}  // namespace

void checker_launch() {
    ++launches;
    traffic.clear();
    std::fill(words_left, words_left + 128, 0);
    shared_cells.assign(shared_bytes, Cell());
    dl_iterate_phdr(find_library, nullptr);
}

void checker_wide(const void* p, unsigned bytes, const void* code) {
    uintptr_t at = (uintptr_t)p, memory = (uintptr_t)shared;
    words_left[current->index.x] = 0;
    note_traffic(at, bytes, at >= memory && at < memory + shared_bytes, code);
    words_left[current->index.x] = bytes / 4;
}

// Traffic of the last launch by instruction: how many there are; the first `room` of them.
extern "C" uint64_t twin_traffic(Traffic::Line* lines, uint64_t room) {
    std::vector<Traffic::Line> all = traffic.lines();
    std::copy_n(all.begin(), std::min<uint64_t>(room, all.size()), lines);
    return all.size();
}

extern "C" void twin_forget() { buffer_cells.clear(); }

#define ACCESS(bytes)                                                                                            \
    extern "C" void __tsan_read##bytes(void* p) { touch(p, bytes, false, __builtin_return_address(0)); }           \
    extern "C" void __tsan_write##bytes(void* p) { touch(p, bytes, true, __builtin_return_address(0)); }           \
    extern "C" void __tsan_unaligned_read##bytes(void* p) { touch(p, bytes, false, __builtin_return_address(0)); } \
    extern "C" void __tsan_unaligned_write##bytes(void* p) { touch(p, bytes, true, __builtin_return_address(0)); }

ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

extern "C" void __tsan_read_range(void* p, unsigned long n) {
    for (unsigned long i = 0; i < n; ++i) touch((char*)p + i, 1, false, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* p, unsigned long n) {
    for (unsigned long i = 0; i < n; ++i) touch((char*)p + i, 1, true, __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}

}  // namespace twin
