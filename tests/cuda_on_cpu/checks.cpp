// Checks every memory access of a kernel: bounds, alignment, shared memory that nobody wrote, races.
//
// The kernel is compiled with -fsanitize=thread, which puts a call of __tsan_read4 and its like before each access;
// libtsan is not linked, the calls come here. What a check finds does not depend on the order the threads run in.
#include "runtime.hpp"
#include <algorithm>
#include <link.h>

namespace {
// What is known of 1 << shift bytes: the last writer and reader (number in the grid + 1, 0 for none), the barriers
// and warp synchronisations they had passed, and where in the code they stood.
struct Cell {
    unsigned writer, writer_barriers, writer_warp_syncs, writer_code;
    unsigned reader, reader_barriers, reader_warp_syncs, reader_code;
    enum : unsigned char { ONE_WARP, SEVERAL_WARPS, SEVERAL_BLOCKS } readers;
    bool initialised;
};

struct Region {
    unsigned long low, high;
    Cell* cells;
    int shift;
    bool shared;
    Cell* begin(unsigned long address) const { return cells + ((address - low) >> shift); }
};

std::vector<Region> regions;  // the arrays of the launch, and shared memory in front
std::vector<Cell> array_cells, shared_cells;
int shared_shift = 2;
unsigned long shared_low, shared_high, image_low, image_high;
unsigned long dirty_low, dirty_high;  // what of shared memory the block before has touched

// Finds this library's code and its thread-local storage, where __shared__ arrays lie.
int find_image(dl_phdr_info* info, size_t, void*) {
    const unsigned long here = (unsigned long)&find_image;
    unsigned long low = ~0ul, high = 0;
    const ElfW(Phdr)* local = nullptr;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& header = info->dlpi_phdr[i];
        if (header.p_type == PT_LOAD) {
            low = std::min(low, info->dlpi_addr + header.p_vaddr);
            high = std::max(high, info->dlpi_addr + header.p_vaddr + header.p_memsz);
        }
        if (header.p_type == PT_TLS) local = &header;
    }
    if (here < low || here >= high) return 0;
    image_low = low;
    image_high = high;
    if (local) {
        shared_low = (unsigned long)info->dlpi_tls_data;
        shared_high = shared_low ? shared_low + local->p_memsz : 0;
    }
    return 1;
}

#ifdef EMULATOR_CHECKS
enum Access { READ, WRITE };

// Whether an access that thread `number` made with these counts happened before what the running thread does now.
bool happened_before(const Running& now, unsigned number, unsigned barriers, unsigned warp_syncs) {
    const unsigned other_block = (number - 1) / now.threads_in_block, other = (number - 1) % now.threads_in_block;
    if (other_block != now.block) return false;
    if (other == now.thread || barriers < now.barriers) return true;
    return other / 32 == now.thread / 32 && warp_syncs < now.warp_syncs;
}

void report_race(const char* text, const Running& now, unsigned other, unsigned other_code, unsigned long address,
                 int size, const void* code) {
    report(RACE, text, 0, (other - 1) / now.threads_in_block, (other - 1) % now.threads_in_block, address, size, code,
           image_low + other_code);
}

bool readers_happened_before(const Running& now, const Cell& cell) {
    if (cell.readers == Cell::SEVERAL_BLOCKS) return false;
    if (cell.readers == Cell::SEVERAL_WARPS)
        return (cell.reader - 1) / now.threads_in_block == now.block && cell.reader_barriers < now.barriers;
    return happened_before(now, cell.reader, cell.reader_barriers, cell.reader_warp_syncs);
}

void note_read(const Running& now, Cell& cell, unsigned self, unsigned code) {
    if (cell.reader && cell.reader != self) {
        const unsigned other = cell.reader - 1;
        if (other / now.threads_in_block != now.block) {
            cell.readers = Cell::SEVERAL_BLOCKS;
        } else if (cell.readers != Cell::SEVERAL_BLOCKS) {
            const bool same_time = cell.reader_barriers == now.barriers;
            const bool other_warp = other % now.threads_in_block / 32 != now.thread / 32;
            const bool several = same_time && (cell.readers == Cell::SEVERAL_WARPS || other_warp ||
                                               cell.reader_warp_syncs == now.warp_syncs);
            cell.readers = several ? Cell::SEVERAL_WARPS : Cell::ONE_WARP;
        }
    }
    cell.reader = self;
    cell.reader_barriers = now.barriers;
    cell.reader_warp_syncs = now.warp_syncs;
    cell.reader_code = code;
}

void note_write(const Running& now, Cell& cell, unsigned self, unsigned code) {
    cell = Cell{self, now.barriers, now.warp_syncs, code, 0, 0, 0, 0, Cell::ONE_WARP, true};
}

__attribute__((noinline)) void check(unsigned long address, int size, Access access, const void* code) {
    const Running now = running();
    if (!now.active) return;
    if (address >= now.stack && address + size <= now.stack + STACK_BYTES) return;
    if (address >= image_low && address < image_high) return;  // constants
    for (const Region& region : regions) {
        if (address < region.low || address + size > region.high) continue;
        if (size <= 16 && (size & (size - 1)) == 0 && address % size)
            report(MISALIGNED, "misaligned access", 0, 0, 0, address, size, code);
        if (region.shared) {
            dirty_low = std::min(dirty_low, address);
            dirty_high = std::max(dirty_high, address + size);
        }
        const unsigned self = now.block * now.threads_in_block + now.thread + 1;
        const unsigned place = (unsigned)((unsigned long)code - image_low);
        for (Cell *cell = region.begin(address), *last = region.begin(address + size - 1); cell <= last; ++cell) {
            if (region.shared && access == READ && !cell->initialised) {
                report(UNINITIALISED, "read of uninitialised shared memory", 0, 0, 0, address, size, code);
                cell->initialised = true;
            }
            if (cell->writer && !happened_before(now, cell->writer, cell->writer_barriers, cell->writer_warp_syncs))
                report_race(access == READ ? "race: read after write" : "race: write after write", now, cell->writer,
                            cell->writer_code, address, size, code);
            if (access == WRITE && cell->reader && !readers_happened_before(now, *cell))
                report_race("race: write after read", now, cell->reader, cell->reader_code, address, size, code);
            if (access == READ)
                note_read(now, *cell, self, place);
            else
                note_write(now, *cell, self, place);
        }
        return;
    }
    report(BOUNDS, access == READ ? "read out of bounds" : "write out of bounds", 0, 0, 0, address, size, code);
    abandon_launch();
}
#endif
}  // namespace

void begin_memory_checks() {
    static thread_local volatile char touched;
    touched = 1;  // thread-local storage gets its memory at the first access
    dl_iterate_phdr(find_image, nullptr);
    if (shared_high) {
        shared_cells.assign(((shared_high - shared_low) >> shared_shift) + 1, Cell{});
        regions.insert(regions.begin(), Region{shared_low, shared_high, shared_cells.data(), shared_shift, true});
    }
    dirty_low = shared_low;
    dirty_high = shared_high;
}

void begin_block_memory() {
    if (dirty_low >= dirty_high) return;
    memset((void*)dirty_low, 0xFB, dirty_high - dirty_low);
#ifdef EMULATOR_CHECKS
    const Region& region = regions.front();
    std::fill(region.begin(dirty_low), region.begin(dirty_high - 1) + 1, Cell{});
    dirty_low = shared_high;
    dirty_high = shared_low;
#endif
}

void end_memory_checks() { regions.clear(); }

#ifdef EMULATOR_CHECKS
extern "C" {
#define CALLER __builtin_return_address(0)
#define ACCESSES(n)                                                                      \
    void __tsan_read##n(void* p) { check((unsigned long)p, n, READ, CALLER); }           \
    void __tsan_write##n(void* p) { check((unsigned long)p, n, WRITE, CALLER); }         \
    void __tsan_unaligned_read##n(void* p) { check((unsigned long)p, n, READ, CALLER); } \
    void __tsan_unaligned_write##n(void* p) { check((unsigned long)p, n, WRITE, CALLER); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(void* p, size_t size) { check((unsigned long)p, (int)size, READ, CALLER); }
void __tsan_write_range(void* p, size_t size) { check((unsigned long)p, (int)size, WRITE, CALLER); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

// -fsanitize=undefined likewise calls handlers, whose first argument begins with the place in the source.
struct Place {
    const char* file;
    unsigned line, column;
};
#define UNDEFINED_BEHAVIOUR(name, text) \
    void __ubsan_handle_##name(Place* place, ...) { report(UNDEFINED, text, (int)place->line); }
UNDEFINED_BEHAVIOUR(type_mismatch_v1, "misaligned pointer for its type")
UNDEFINED_BEHAVIOUR(out_of_bounds, "array index out of bounds")
UNDEFINED_BEHAVIOUR(shift_out_of_bounds, "shift out of range")
UNDEFINED_BEHAVIOUR(divrem_overflow, "integer division by zero or overflow")
UNDEFINED_BEHAVIOUR(add_overflow, "signed integer overflow")
UNDEFINED_BEHAVIOUR(sub_overflow, "signed integer overflow")
UNDEFINED_BEHAVIOUR(mul_overflow, "signed integer overflow")
UNDEFINED_BEHAVIOUR(negate_overflow, "signed integer overflow")
}
#endif

// The arrays of the next launch, and how finely each is watched.
EMU_EXPORT void emu_regions(int count, const unsigned long* low, const unsigned long* high, const int* shift) {
    size_t cells = 0;
    for (int i = 0; i < count; ++i) cells += ((high[i] - low[i]) >> shift[i]) + 1;
    array_cells.assign(cells, Cell{});
    Cell* next = array_cells.data();
    for (int i = 0; i < count; ++i) {
        regions.push_back(Region{low[i], high[i], next, shift[i], false});
        next += ((high[i] - low[i]) >> shift[i]) + 1;
    }
}

EMU_EXPORT unsigned long emu_image() { return image_low; }
