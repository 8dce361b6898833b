// What every .cu file of this folder begins with; cuda_module.py puts it in front of the file's text.
//
// A file is compiled once for each dtype and index width that is used, with
//   REAL    float or double, SUFFIX  f32 or f64: the entry points are <operation>_<f32|f64>
//   INDEX   int, or long long where an array or a size is too large for it
// so one text serves all four, and its kernels have plain C names.
typedef REAL real;
typedef INDEX index_t;

#define JOIN(name, suffix) name##_##suffix
#define JOIN_EXPANDED(name, suffix) JOIN(name, suffix)
#define KERNEL(name) JOIN_EXPANDED(name, SUFFIX)

// Offsets that mark a row or column outside the matrix: the sum of one with any other offset stays negative.
constexpr index_t NOWHERE = -(index_t(1) << (sizeof(index_t) * 8 - 2));

__device__ inline index_t first_index() { return (index_t)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline index_t index_step() { return (index_t)gridDim.x * blockDim.x; }
#define GRID_STRIDE(i, total) for (index_t i = first_index(); i < (total); i += index_step())

// a / b and a % b of numbers that are not negative; unsigned division takes fewer instructions.
__device__ inline index_t divide(index_t a, index_t b, index_t& rest) {
    if (sizeof(index_t) == 4) {
        const unsigned quotient = (unsigned)a / (unsigned)b;
        rest = (index_t)((unsigned)a - quotient * (unsigned)b);
        return (index_t)quotient;
    }
    const index_t quotient = a / b;
    rest = a - quotient * b;
    return quotient;
}

__device__ inline real relu(real value) { return value < real(0) ? real(0) : value; }  // NaN stays NaN

__device__ inline index_t smaller(index_t a, index_t b) { return a < b ? a : b; }

__device__ inline real infinity() { return (real)__int_as_float(0x7f800000); }
__device__ inline real not_a_number() { return (real)__int_as_float(0x7fc00000); }
