// Memory of large arrays that are gone, for the next ones: the first touch of a fresh page costs more than the
// arithmetic on it, and a training step asks for the same sizes again and again.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <map>
#include <mutex>

#if !defined(_WIN32)
#include <pthread.h>
#include <sys/mman.h>
#endif

namespace gconv {

class RecycledMemory {
  public:
    static constexpr size_t MOST_KEPT = size_t(32) << 20;

    static RecycledMemory& shared() {
        static RecycledMemory* memory = new RecycledMemory;  // never deleted: arrays may outlive every static object
        return *memory;
    }

    static size_t rounded(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

    // `bytes` is rounded. Returns null where there is no memory.
    void* take(size_t bytes) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            const auto found = kept_.find(bytes);
            if (found != kept_.end()) {
                void* block = found->second;
                kept_.erase(found);
                bytes_kept_ -= bytes;
                return block;
            }
        }
        void* block = fresh(bytes);
        if (block) return block;
        drop_all();
        return fresh(bytes);
    }

    void give(void* block, size_t bytes) {
        if (bytes > MOST_KEPT) {
            std::free(block);
            return;
        }
        const std::lock_guard<std::mutex> lock(mutex_);
        // Out with sizes that nobody asked for again, the largest first.
        while (bytes_kept_ + bytes > MOST_KEPT && !kept_.empty()) drop_largest();
        try {
            kept_.emplace(bytes, block);
            bytes_kept_ += bytes;
        } catch (...) {
            std::free(block);
        }
    }

  private:
    RecycledMemory() {
#if !defined(_WIN32)
        // A process forked while another thread holds the lock would wait for that thread, which it does not have.
        pthread_atfork([] { shared().mutex_.lock(); }, [] { shared().mutex_.unlock(); },
                       [] { shared().mutex_.unlock(); });
#endif
    }

    static constexpr size_t PAGE = 4096, LINE = 64, HUGE_PAGE = size_t(2) << 20;

    static void* fresh(size_t bytes) {
#if defined(_WIN32)
        return std::malloc(bytes);
#else
        void* block = nullptr;
        const bool huge = bytes >= 2 * HUGE_PAGE;
        if (posix_memalign(&block, huge ? HUGE_PAGE : LINE, bytes)) return nullptr;
#if defined(MADV_HUGEPAGE)
        // One fault for 2 MB instead of 512; where the system refuses, nothing is lost.
        if (huge) madvise(block, bytes, MADV_HUGEPAGE);
#endif
        return block;
#endif
    }

    void drop_largest() {
        const auto last = std::prev(kept_.end());
        std::free(last->second);
        bytes_kept_ -= last->first;
        kept_.erase(last);
    }

    void drop_all() {
        const std::lock_guard<std::mutex> lock(mutex_);
        while (!kept_.empty()) drop_largest();
    }

    std::mutex mutex_;
    std::multimap<size_t, void*> kept_;
    size_t bytes_kept_ = 0;
};

}  // namespace gconv
