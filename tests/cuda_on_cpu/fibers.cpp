// Runs the threads of each block as fibers, in an order drawn from a seed: barriers, shuffles, deadlocks.
#include "runtime.hpp"
#include <algorithm>
#include <random>
#include <sys/mman.h>
#include <ucontext.h>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {
constexpr size_t GUARD_BYTES = 4096;
constexpr unsigned NO_OPERATION = ~0u;
enum State { RUNNABLE, AT_BARRIER, IN_WARP_OPERATION, DONE };
enum Order { ASCENDING, DESCENDING, RANDOM };

struct Fiber {
    ucontext_t context;
    char* stack;
    unsigned thread;  // linear number in the block
    State state;
    unsigned mask;  // of the warp operation it waits in
    unsigned warp_syncs;
    int line;                                  // of the barrier it waits at
    unsigned source;                           // the lane whose value it asks for
    alignas(16) char given[16], received[16];  // its own value, and the one it asked for
};

std::vector<Fiber*> all, idle;    // every fiber; those without a thread
std::vector<Fiber*> of_thread;    // a thread's fiber; null before it starts and after it ends
std::vector<Fiber*> ready;        // started, and waiting for nothing
std::vector<unsigned> unstarted;  // threads
ucontext_t main_context;
Fiber* current;
unsigned threads, alive, at_barrier, barriers, block;
bool aborted;
int barrier_line;
void (*thread_main)(void*);
void* thread_argument;
std::mt19937 generator;
Order order;
std::vector<Report> reports;

void prepare(Fiber* fiber);

void become(Fiber* fiber) {
    current = fiber;
    const unsigned t = fiber->thread;
    threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
}

Fiber* start_thread() {
    Fiber* fiber;
    if (idle.empty()) {
        fiber = new Fiber;
        char* memory = (char*)mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        mprotect(memory, GUARD_BYTES, PROT_NONE);
        fiber->stack = memory + GUARD_BYTES;
        prepare(fiber);
        all.push_back(fiber);
    } else {
        fiber = idle.back();
        idle.pop_back();
    }
    fiber->thread = unstarted.back();
    unstarted.pop_back();
    fiber->state = RUNNABLE;
    fiber->warp_syncs = 0;
    fiber->line = 0;
    of_thread[fiber->thread] = fiber;
    return fiber;
}

Fiber* pick() {  // the next to run; null where there is none
    if (!unstarted.empty() && (ready.empty() || order != RANDOM || generator() % 4)) return start_thread();
    if (ready.empty()) return nullptr;
    const size_t i = order == ASCENDING ? 0 : order == DESCENDING ? ready.size() - 1 : generator() % ready.size();
    Fiber* fiber = ready[i];
    if (order == ASCENDING) {
        ready.erase(ready.begin());
    } else {
        ready[i] = ready.back();
        ready.pop_back();
    }
    return fiber;
}

[[noreturn]] void deadlock() {
    int waiting = 0, exchanging = 0, line = 0;
    for (const Fiber* fiber : of_thread) {
        if (!fiber) continue;
        waiting += fiber->state == AT_BARRIER;
        exchanging += fiber->state == IN_WARP_OPERATION;
        if (fiber->line) line = fiber->line;
    }
    char text[80];
    snprintf(text, sizeof text, "deadlock: %d threads at __syncthreads, %d in a warp operation, %u exited", waiting,
             exchanging, threads - alive);
    report(BARRIER, text, line);
    abandon_launch();
}

void wait_for_turn() {  // the current fiber stops here until it is picked again
    Fiber *self = current, *next = pick();
    if (!next) deadlock();
    if (next != self) {
        become(next);
        swapcontext(&self->context, &next->context);
    }
    become(self);
}

void release_barrier() {
    at_barrier = 0;
    ++barriers;
    for (Fiber* fiber : of_thread)
        if (fiber && fiber->state == AT_BARRIER) {
            fiber->state = RUNNABLE;
            ready.push_back(fiber);
        }
}

void run_threads() {  // a fiber's life: one thread after another
    for (;;) {
        thread_main(thread_argument);
        Fiber* self = current;
        self->state = DONE;
        of_thread[self->thread] = nullptr;
        --alive;
        if (alive && at_barrier == alive) release_barrier();
        idle.push_back(self);
        if (!alive) {
            swapcontext(&self->context, &main_context);
            continue;
        }
        Fiber* next = pick();  // often this same fiber, with the next thread
        if (!next) deadlock();
        become(next);
        if (next != self) swapcontext(&self->context, &next->context);
    }
}

void prepare(Fiber* fiber) {
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, run_threads, 0);
}

unsigned lane() { return current->thread % 32; }

Fiber* in_warp(unsigned l) {
    const unsigned thread = current->thread / 32 * 32 + l;
    return thread < threads ? of_thread[thread] : nullptr;
}

// Waits for exactly the lanes in the mask; the last to come hands all values over while every lane is still here.
void warp_operation(unsigned mask, unsigned source) {
    const unsigned rest = threads - current->thread / 32 * 32;
    if (rest < 32) mask &= (1u << rest) - 1;  // a full mask is legal in the last, partial warp
    if (!(mask >> lane() & 1)) {
        report(WARP, "the calling lane is not in the mask of its warp operation", 0);
        abandon_launch();
    }
    current->mask = mask;
    current->source = source;
    current->state = IN_WARP_OPERATION;
    for (unsigned l = 0; l < 32; ++l) {
        if (!(mask >> l & 1)) continue;
        const Fiber* fiber = in_warp(l);
        if (!fiber || fiber->state != IN_WARP_OPERATION || fiber->mask != mask) return wait_for_turn();
    }
    unsigned passed = 0;
    for (unsigned l = 0; l < 32; ++l)
        if (mask >> l & 1) passed = std::max(passed, in_warp(l)->warp_syncs);
    for (unsigned l = 0; l < 32; ++l) {
        if (!(mask >> l & 1)) continue;
        Fiber* fiber = in_warp(l);
        if (fiber->source == NO_OPERATION) continue;
        if (mask >> fiber->source & 1) {
            memcpy(fiber->received, in_warp(fiber->source)->given, sizeof fiber->received);
        } else {
            report(WARP, "a shuffle reads a lane outside the mask", 0);
            memset(fiber->received, 0xFB, sizeof fiber->received);
        }
    }
    for (unsigned l = 0; l < 32; ++l) {
        if (!(mask >> l & 1)) continue;
        Fiber* fiber = in_warp(l);
        fiber->warp_syncs = passed + 1;
        fiber->state = RUNNABLE;
        if (fiber != current) ready.push_back(fiber);
    }
}

void run_block(const unsigned number) {
    block = number;
    blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / (gridDim.x * gridDim.y)};
    unstarted.resize(threads);
    for (unsigned i = 0; i < threads; ++i) unstarted[i] = order == DESCENDING ? i : threads - 1 - i;
    if (order == RANDOM) std::shuffle(unstarted.begin(), unstarted.end(), generator);
    ready.clear();
    alive = threads;
    at_barrier = barriers = 0;
    begin_block_memory();
    become(start_thread());
    swapcontext(&main_context, &current->context);
    current = nullptr;
}
}  // namespace

Running running() {
    if (!current) return Running{};
    return Running{true, (unsigned long)current->stack, current->thread, block, barriers, current->warp_syncs, threads};
}

void report(Kind kind, const char* text, int line, unsigned other_block, unsigned other_thread, unsigned long address,
            int size, const void* code, unsigned long other_code) {
    for (const Report& r : reports)
        if (r.kind == kind && r.code == (unsigned long)code && r.other_code == other_code && r.line == line) return;
    if (reports.size() >= 16) return;
    Report r{kind,        line,         block,   current ? current->thread : 0,
             other_block, other_thread, address, (unsigned long)code,
             other_code,  size,         {}};
    snprintf(r.text, sizeof r.text, "%s", text);
    reports.push_back(r);
}

void abandon_launch() {
    aborted = true;
    swapcontext(&current->context, &main_context);
    __builtin_unreachable();
}

extern "C" {
void emu_barrier(int line) {
    if (!at_barrier)
        barrier_line = line;
    else if (line != barrier_line)
        report(BARRIER, "threads of one block meet at different __syncthreads()", line);
    current->line = line;
    current->state = AT_BARRIER;
    if (++at_barrier < alive) return wait_for_turn();
    current->state = RUNNABLE;
    release_barrier();
    if (order == RANDOM && generator() % 2) {  // the last to arrive is not always the first to go on
        ready.push_back(current);
        wait_for_turn();
    }
}

void emu_syncwarp(unsigned mask) { warp_operation(mask, NO_OPERATION); }

int emu_lane() { return (int)lane(); }

const void* emu_exchange(unsigned mask, const void* value, int size, int source_lane) {
    memcpy(current->given, value, size);
    warp_operation(mask, (unsigned)source_lane & 31);
    return current->received;
}

void emu_trap(const char* what, int line) {
    report(TRAP, what, line);
    abandon_launch();
}

// Runs a launch as emu_configure set it up; returns whether it was abandoned.
int emu_run(void (*main)(void*), void* argument) {
    thread_main = main;
    thread_argument = argument;
    threads = blockDim.x * blockDim.y * blockDim.z;
    std::vector<unsigned> blocks(gridDim.x * gridDim.y * gridDim.z);
    for (unsigned i = 0; i < blocks.size(); ++i) blocks[i] = order == DESCENDING ? (unsigned)blocks.size() - 1 - i : i;
    if (order == RANDOM) std::shuffle(blocks.begin(), blocks.end(), generator);
    begin_memory_checks();
    of_thread.assign(threads, nullptr);
    aborted = false;
    for (const unsigned number : blocks) {
        run_block(number);
        if (aborted) {  // drop the fibers that are in the middle of the kernel
            for (Fiber* fiber : all) prepare(fiber);
            idle = all;
            break;
        }
    }
    end_memory_checks();
    return aborted;
}
}

EMU_EXPORT void emu_configure(const unsigned* grid, const unsigned* block_size, int thread_order, unsigned seed) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block_size[0], block_size[1], block_size[2]};
    order = (Order)thread_order;
    generator.seed(seed);
    reports.clear();
}

EMU_EXPORT int emu_reports(const Report** first) {
    *first = reports.data();
    return (int)reports.size();
}
