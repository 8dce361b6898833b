// What fibers.cpp and checks.cpp share: the running thread, and reports of broken rules.
#pragma once
#include "device.hpp"
#include <vector>

constexpr size_t STACK_BYTES = 256 << 10;

// The kinds of emulator.py's KINDS, in its order.
enum Kind { BOUNDS, BARRIER, WARP, RACE, MISALIGNED, UNINITIALISED, TRAP, UNDEFINED };

struct Report {
    int kind, line;
    unsigned block, thread, other_block, other_thread;
    unsigned long address, code, other_code;
    int size;
    char text[80];
};

// Where the running thread stands: numbers of its grid, and how many synchronisations it has passed.
struct Running {
    bool active;
    unsigned long stack;            // lowest address of its stack
    unsigned thread, block;         // linear numbers
    unsigned barriers, warp_syncs;  // passed by its block, by itself
    unsigned threads_in_block;
};
Running running();

void report(Kind kind, const char* text, int line, unsigned other_block = 0, unsigned other_thread = 0,
            unsigned long address = 0, int size = 0, const void* code = nullptr, unsigned long other_code = 0);
[[noreturn]] void abandon_launch();

void begin_memory_checks();  // of a launch
void begin_block_memory();   // fills shared memory with garbage and forgets its history
void end_memory_checks();
