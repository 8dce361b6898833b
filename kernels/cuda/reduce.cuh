// Sums over a warp and over a block, in an order that the shapes fix.
constexpr unsigned WHOLE_WARP = 0xffffffffu;

// A State has add(const State&), from_lane(offset), the state that lies offset lanes further up, and empty(), the state
// that adds nothing. It has no constructor: shared memory can't hold what has one.
template <class State>
__device__ inline void reduce_warp(State& state) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) state.add(state.from_lane(offset));
}

// Afterwards thread 0 has the sum over a block of at most 1024 threads, a multiple of 32.
template <class State>
__device__ inline void reduce_block(State& state) {
    __shared__ State warps[32];
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    reduce_warp(state);
    __syncthreads();  // the last sum's values have been read
    if (lane == 0) warps[warp] = state;
    __syncthreads();
    if (warp == 0) {
        state = lane < (int)blockDim.x / 32 ? warps[lane] : State::empty();
        reduce_warp(state);
    }
}

struct Sum {
    real value;
    __device__ static Sum empty() { return Sum{real(0)}; }
    __device__ void add(const Sum& other) { value += other.value; }
    __device__ Sum from_lane(int offset) const { return Sum{__shfl_down_sync(WHOLE_WARP, value, offset)}; }
};

// Two sums at once.
struct SumPair {
    real first, second;
    __device__ static SumPair empty() { return SumPair{real(0), real(0)}; }
    __device__ void add(const SumPair& other) { first += other.first, second += other.second; }
    __device__ SumPair from_lane(int offset) const {
        return SumPair{__shfl_down_sync(WHOLE_WARP, first, offset), __shfl_down_sync(WHOLE_WARP, second, offset)};
    }
};

// Sums of squares of numbers of any size (Blue 1978): those whose squares are too large or too small for the dtype are
// scaled first, by powers of two, and added up apart.
struct Squares {
    real middle, large, small;
    static constexpr bool SINGLE = sizeof(real) == 4;
    static constexpr real LARGE = SINGLE ? real(4503599627370496.0) : real(1.9979190722022350e146);  // 2^52, 2^486
    static constexpr real SMALL =
        SINGLE ? real(1.0842021724855044e-19) : real(1.4916681462400413e-154);  // 2^-63, 2^-511
    static constexpr real DOWN =
        SINGLE ? real(1.3234889800848443e-23) : real(1.1113793747425387e-162);  // 2^-76, 2^-538
    static constexpr real UP = SINGLE ? real(37778931862957161709568.0) : real(4.4989137945431964e161);  // 2^75, 2^537
    __device__ static Squares empty() { return Squares{real(0), real(0), real(0)}; }
    __device__ void add(real value) {
        const real size = value < real(0) ? -value : value;
        if (size > LARGE)
            large += (value * DOWN) * (value * DOWN);
        else if (size < SMALL)
            small += (value * UP) * (value * UP);
        else
            middle += value * value;  // NaN too
    }
    __device__ void add(const Squares& other) { middle += other.middle, large += other.large, small += other.small; }
    __device__ Squares from_lane(int offset) const {
        return Squares{__shfl_down_sync(WHOLE_WARP, middle, offset), __shfl_down_sync(WHOLE_WARP, large, offset),
                       __shfl_down_sync(WHOLE_WARP, small, offset)};
    }
    // A power of two, and the square root of the sum times that.
    __device__ real unit() const { return large > real(0) ? DOWN : middle == real(0) ? UP : real(1); }
    __device__ real root() const {
        if (large > real(0)) return sqrt(large + middle * DOWN * DOWN);
        return sqrt(middle == real(0) ? small : middle + small / UP / UP);
    }
};

// Count, mean and sum of squared deviations (Welford 1962; merged as Chan, Golub and LeVeque 1983): E[x^2] - E[x]^2
// would lose every digit where the mean is large.
struct Moments {
    real count, mean, squares;
    __device__ static Moments empty() { return Moments{real(0), real(0), real(0)}; }
    __device__ void add(real value) {
        count += real(1);
        const real off = value - mean;
        mean += off / count;
        squares += off * (value - mean);
    }
    __device__ void add(const Moments& other) {
        const real total = count + other.count;
        if (other.count > real(0)) {
            const real off = other.mean - mean;
            mean += off * (other.count / total);
            squares += other.squares + off * off * (count * other.count / total);
            count = total;
        }
    }
    __device__ Moments from_lane(int offset) const {
        return Moments{__shfl_down_sync(WHOLE_WARP, count, offset), __shfl_down_sync(WHOLE_WARP, mean, offset),
                       __shfl_down_sync(WHOLE_WARP, squares, offset)};
    }
};
