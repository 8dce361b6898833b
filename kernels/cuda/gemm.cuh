// A tiled matrix product with operands and output of any kind: the one inner loop of convolution and affine layers.
//
// C(m, n) = sum over k of A(m, k) B(k, n). A block of 256 threads computes a BM x BN tile, BK products deep at a
// time. While it multiplies one pair of panels from shared memory, it loads the next pair into registers; two
// buffers, so one barrier a panel. The order of the sums is fixed by the shapes.
//
// An operand says what a row or column is (place), what a k is (step), and the value at both (load). Divisions
// happen in place, once a thread, and in step, once a panel by a few threads, through shared memory; load only adds.
constexpr int THREADS = 256;

// A thread's values are groups of 4 rows by groups of 4 columns, so that fragments are read 16 bytes at a time.
template <int BM_, int BN_, int BK_>
struct Tile {
    static constexpr int BM = BM_, BN = BN_, BK = BK_;
    static constexpr int COLUMN_THREADS = BM == BN ? 16 : BN / 4, ROW_THREADS = THREADS / COLUMN_THREADS;
    static constexpr int TM = BM / ROW_THREADS, TN = BN / COLUMN_THREADS;
    static_assert(TM % 4 == 0 && TN % 4 == 0, "a thread's share is made of 4 x 4 blocks");
};
typedef Tile<32, 128, 16> StripTile;
typedef Tile<64, 64, 16> SquareTile;
typedef Tile<128, 128, 8> LargeTile;

// One panel of an operand: WIDTH rows or columns, BK deep, kept as [k][place] in shared memory.
template <class Operand, int WIDTH, int BK>
struct Panel {
    static constexpr int LOADS = WIDTH * BK / THREADS;
    // Threads that are neighbours read neighbours in memory: along k, or along the rows or columns.
    static constexpr int PLACES = Operand::K_IS_FAST ? LOADS : 1;
    // Rows of whole 16 bytes. A warp that writes along k meets each bank once where BK is 8, and twice where it is 16
    // (bank 4 k + place); in float64 twice as often.
    static constexpr int ROW = WIDTH + 4;

    struct Shared {
        alignas(16) real values[2][BK][ROW];
        typename Operand::Step steps[2][BK];
    };

    typename Operand::Place places[PLACES];
    real staged[LOADS];

    __device__ static int place_of(int load) {
        return Operand::K_IS_FAST ? (int)threadIdx.x / BK + load * (THREADS / BK) : (int)threadIdx.x % WIDTH;
    }
    __device__ static int k_of(int load) {
        return Operand::K_IS_FAST ? (int)threadIdx.x % BK : (int)threadIdx.x / WIDTH + load * (THREADS / WIDTH);
    }
    __device__ void find_places(const Operand& operand, index_t first) {
#pragma unroll
        for (int i = 0; i < PLACES; ++i) places[i] = operand.place(first + place_of(i));
    }
    __device__ static void find_steps(const Operand& operand, Shared& shared, int buffer, index_t k, index_t k_end) {
        if ((int)threadIdx.x < BK) {
            const index_t mine = k + (index_t)threadIdx.x;
            shared.steps[buffer][threadIdx.x] = mine < k_end ? operand.step(mine) : Operand::no_step();
        }
    }
    __device__ void load(const Operand& operand, const Shared& shared, int buffer) {
#pragma unroll
        for (int i = 0; i < LOADS; ++i)
            staged[i] = operand.load(places[Operand::K_IS_FAST ? i : 0], shared.steps[buffer][k_of(i)]);
    }
    __device__ void store(Shared& shared, int buffer) const {
#pragma unroll
        for (int i = 0; i < LOADS; ++i) shared.values[buffer][k_of(i)][place_of(i)] = staged[i];
    }
};

template <int GROUPS>
__device__ inline void read_fragment(real (&fragment)[GROUPS * 4], const real* row, int thread, int group_width) {
#pragma unroll
    for (int g = 0; g < GROUPS; ++g) {
        const real* source = row + g * group_width + thread * 4;
        if constexpr (sizeof(real) == 4) {
            const float4 four = *reinterpret_cast<const float4*>(source);
            fragment[g * 4] = (real)four.x, fragment[g * 4 + 1] = (real)four.y;
            fragment[g * 4 + 2] = (real)four.z, fragment[g * 4 + 3] = (real)four.w;
        } else {
            const double2 low = *reinterpret_cast<const double2*>(source);
            const double2 high = *reinterpret_cast<const double2*>(source + 2);
            fragment[g * 4] = (real)low.x, fragment[g * 4 + 1] = (real)low.y;
            fragment[g * 4 + 2] = (real)high.x, fragment[g * 4 + 3] = (real)high.y;
        }
    }
}

// One tile of a product with so many columns, of the products k_begin <= k < k_end; blockIdx.x counts the tiles row by
// row. Output's put4 takes a row, the first of 4 columns and their values; it leaves out what lies outside the matrix.
template <class T, class A, class B, class Output>
__device__ void gemm(const A& a, const B& b, const Output& output, index_t columns, index_t k_begin, index_t k_end) {
    index_t column_tile;
    const index_t m0 = divide((index_t)blockIdx.x, (columns + T::BN - 1) / T::BN, column_tile) * T::BM;
    const index_t n0 = column_tile * T::BN;
    typedef Panel<A, T::BM, T::BK> PanelA;
    typedef Panel<B, T::BN, T::BK> PanelB;
    __shared__ typename PanelA::Shared shared_a;
    __shared__ typename PanelB::Shared shared_b;
    PanelA panel_a;
    PanelB panel_b;
    panel_a.find_places(a, m0);
    panel_b.find_places(b, n0);
    for (int buffer = 0; buffer < 2; ++buffer) {
        PanelA::find_steps(a, shared_a, buffer, k_begin + buffer * T::BK, k_end);
        PanelB::find_steps(b, shared_b, buffer, k_begin + buffer * T::BK, k_end);
    }
    __syncthreads();
    panel_a.load(a, shared_a, 0);
    panel_b.load(b, shared_b, 0);
    panel_a.store(shared_a, 0);
    panel_b.store(shared_b, 0);
    __syncthreads();

    const int column_thread = (int)threadIdx.x % T::COLUMN_THREADS, row_thread = (int)threadIdx.x / T::COLUMN_THREADS;
    constexpr int ROW_GROUP = T::ROW_THREADS * 4, COLUMN_GROUP = T::COLUMN_THREADS * 4;
    real sums[T::TM][T::TN] = {};
    int buffer = 0;
    for (index_t k = k_begin; k < k_end; k += T::BK, buffer ^= 1) {
        const bool more = k + T::BK < k_end;
        if (more) {
            panel_a.load(a, shared_a, buffer ^ 1);
            panel_b.load(b, shared_b, buffer ^ 1);
            // This buffer's steps were used for the panel that is being multiplied now.
            PanelA::find_steps(a, shared_a, buffer, k + 2 * T::BK, k_end);
            PanelB::find_steps(b, shared_b, buffer, k + 2 * T::BK, k_end);
        }
#pragma unroll
        for (int i = 0; i < T::BK; ++i) {
            real left[T::TM], right[T::TN];
            read_fragment<T::TM / 4>(left, shared_a.values[buffer][i], row_thread, ROW_GROUP);
            read_fragment<T::TN / 4>(right, shared_b.values[buffer][i], column_thread, COLUMN_GROUP);
#pragma unroll
            for (int r = 0; r < T::TM; ++r)
#pragma unroll
                for (int c = 0; c < T::TN; ++c) sums[r][c] += left[r] * right[c];
        }
        if (more) {
            panel_a.store(shared_a, buffer ^ 1);
            panel_b.store(shared_b, buffer ^ 1);
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < T::TM; ++r) {
        const index_t m = m0 + (r / 4) * ROW_GROUP + row_thread * 4 + r % 4;
#pragma unroll
        for (int g = 0; g < T::TN / 4; ++g) {
            real four[4];
#pragma unroll
            for (int c = 0; c < 4; ++c) four[c] = sums[r][g * 4 + c];
            output.put4(m, n0 + g * COLUMN_GROUP + column_thread * 4, four);
        }
    }
}

// An operand whose value lies at the sum of two offsets; a negative sum lies outside.
struct Gather {
    typedef index_t Place;
    typedef index_t Step;
    const real* values;
    __device__ static index_t no_step() { return NOWHERE; }
    __device__ real load(index_t place, index_t step) const {
        const index_t offset = place + step;
        return offset < 0 ? real(0) : values[offset];
    }
};

// values[place * stride + k]: rows of k, as w in convolutions.
struct RowMajor : Gather {
    static constexpr bool K_IS_FAST = true;
    index_t places, stride;
    __device__ RowMajor(const real* v, index_t places_, index_t stride_) : places(places_), stride(stride_) {
        values = v;
    }
    __device__ index_t place(index_t i) const { return i < places ? i * stride : NOWHERE; }
    __device__ index_t step(index_t k) const { return k; }
};

// values[k * stride + place].
struct ColumnMajor : Gather {
    static constexpr bool K_IS_FAST = false;
    index_t places, stride;
    __device__ ColumnMajor(const real* v, index_t places_, index_t stride_) : places(places_), stride(stride_) {
        values = v;
    }
    __device__ index_t place(index_t i) const { return i < places ? i : NOWHERE; }
    __device__ index_t step(index_t k) const { return k * stride; }
};

// Where the products of one block go when the sum is split over several: partial[split][m][n], added up in order
// by add_splits.
struct Partial {
    real* values;  // null: not split
    index_t rows, columns;
    __device__ static Partial none() { return Partial{}; }
    __device__ bool put4(index_t m, index_t n, const real (&four)[4]) const {
        if (!values) return false;
        real* row = values + ((index_t)blockIdx.y * rows + m) * columns;
        for (int c = 0; c < 4; ++c)
            if (m < rows && n + c < columns) row[n + c] = four[c];
        return true;
    }
};

template <class Output>
__device__ void add_splits(const real* partial, index_t splits, index_t rows, index_t columns, const Output& output) {
    GRID_STRIDE(i, rows * columns) {
        real sum = 0;
        for (index_t s = 0; s < splits; ++s) sum += partial[s * rows * columns + i];
        index_t n;
        const index_t m = divide(i, columns, n);
        output.put(m, n, sum);
    }
}

// The part of k that this block of a split sum has: chunk is a multiple of BK.
__device__ inline index_t split_begin(index_t chunk) { return (index_t)blockIdx.y * chunk; }
__device__ inline index_t split_end(index_t chunk, index_t k) { return smaller(split_begin(chunk) + chunk, k); }
