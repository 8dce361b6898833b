// Threads, and memory to work in. Compiles without OpenMP too.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdlib>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace gconv {

// Whether a team of threads has ever been at work: a process forked after that has none, and GNU's OpenMP waits for it.
inline std::atomic<bool> team_has_run{false};

#ifdef _OPENMP
inline int openmp_version() { return _OPENMP; }
inline int thread_number() { return omp_get_thread_num(); }
inline int team_size(int requested) {
    int size = 1;
    team_has_run = true;
#pragma omp parallel num_threads(requested)
#pragma omp single
    size = omp_get_num_threads();
    return size;
}
#else
inline int openmp_version() { return 0; }
inline int thread_number() { return 0; }
inline int team_size(int) { return 1; }
#endif

// Calls work(task, thread) for each task. Each thread begins with a stretch of its own, the same in every call: what it
// has written is still in its cache in the next pass over the same arrays. Who is done takes what others have left, so
// who does which task changes from run to run: a task writes only to places of its own, and results do not depend on
// it.
template <typename Work>
static inline void for_each_task(int threads, ptrdiff_t tasks, const Work& work) {
    if (threads <= 1 || tasks <= 1) {
        for (ptrdiff_t task = 0; task < tasks; ++task) work(task, 0);
        return;
    }
#ifdef _OPENMP
    team_has_run.store(true, std::memory_order_relaxed);
#endif
    constexpr int MOST = 64;
    struct alignas(64) Stretch {
        std::atomic<ptrdiff_t> next{0};
    } stretches[MOST];
    const int count = threads < MOST ? threads : MOST;
    for (int i = 0; i < count; ++i) stretches[i].next.store(i * tasks / count, std::memory_order_relaxed);
#pragma omp parallel num_threads(threads)
    for (int step = 0; step < count; ++step) {
        const int whose = (thread_number() + step) % count;
        const ptrdiff_t end = (whose + 1) * tasks / count;
        if (stretches[whose].next.load(std::memory_order_relaxed) >= end) continue;
        for (ptrdiff_t task; (task = stretches[whose].next.fetch_add(1, std::memory_order_relaxed)) < end;)
            work(task, thread_number());
    }
}

// Aligned memory that a calling thread keeps for its next call: fresh pages cost more than what is done with them.
class Scratch {
  public:
    static constexpr size_t ALIGNMENT = 64;
    static constexpr size_t MOST_KEPT = size_t(16) << 20;

    ~Scratch() { std::free(block_); }

    // Returns null where there is no memory. What was returned before is void.
    char* take(size_t bytes) {
        // Also when one call needed far more than those after it.
        if (bytes > size_ || (size_ > MOST_KEPT && bytes < size_ / 4)) {
            std::free(block_);
            size_ = 0;
            block_ = std::malloc(bytes + ALIGNMENT);
            if (!block_) return nullptr;
            size_ = bytes;
        }
        const size_t address = reinterpret_cast<size_t>(block_);
        return static_cast<char*>(block_) + (ALIGNMENT - address % ALIGNMENT) % ALIGNMENT;
    }

  private:
    void* block_ = nullptr;
    size_t size_ = 0;
};

Scratch& calling_threads_scratch();

// Adds up the sizes of arrays, then hands them out: the same requests twice, first with no base.
class Arena {
  public:
    explicit Arena(char* base = nullptr) : base_(base) {}

    template <typename T>
    T* take(ptrdiff_t count) {
        T* array = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
        const size_t bytes = static_cast<size_t>(count) * sizeof(T);
        used_ += (bytes + Scratch::ALIGNMENT - 1) / Scratch::ALIGNMENT * Scratch::ALIGNMENT;
        return array;
    }

    void skip_to(size_t used) { used_ = used; }
    size_t used() const { return used_; }

  private:
    char* base_;
    size_t used_ = 0;
};

// Takes memory for an operation, prepares it, and runs it for each image and band.
template <typename Operation, typename Prepare, typename Run>
static bool over_bands(Operation&& operation, ptrdiff_t images, int threads, const Prepare& prepare, const Run& run) {
    Arena shared, own;
    operation.take_shared(shared);
    operation.take_own(own);
    char* base = calling_threads_scratch().take(shared.used() + threads * own.used());
    if (!base) return false;
    Arena memory(base);
    operation.take_shared(memory);
    prepare(operation);
    const ptrdiff_t bands = operation.bands();
    for_each_task(threads, images * bands, [&](ptrdiff_t task, int thread) {
        Arena mine(base + shared.used() + thread * own.used());
        run(operation, task / bands, task % bands, operation.take_own(mine));
    });
    return true;
}

// Takes memory for an operation whose tasks are groups of images, and runs them.
template <typename Operation, typename Run>
static bool over_groups(Operation& operation, int threads, const Run& run) {
    Arena shared, own;
    operation.take_shared(shared);
    operation.take_own(own);
    char* base = calling_threads_scratch().take(shared.used() + threads * own.used());
    if (!base) return false;
    Arena memory(base);
    operation.take_shared(memory);
    for_each_task(threads, operation.tasks(), [&](ptrdiff_t task, int thread) {
        Arena mine(base + shared.used() + thread * own.used());
        run(task, operation.take_own(mine));
    });
    return true;
}

}  // namespace gconv
