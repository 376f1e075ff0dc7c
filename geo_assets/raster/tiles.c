/* What is computed of every tile of a raster: sums, averages and commonest values (the next overview), and what
   predictors of TIFF make of it.

   Here: arithmetic that NumPy does in several passes with temporary arrays, done in one. Sums and plain averages of
   whole numbers are exact; all else is computed in the order in which tiles.py has NumPy do it: every result is NumPy's,
   to the last bit. Not here: which tile is worked on, what for, and whether sizes fit (tiles.py); how this is compiled
   (scripts/hatch_build.py).

   Tiles are (bands, rows, columns), contiguous, and not empty. Loops are plain, for a compiler to vectorise: once as
   every processor of the kind allows, and once for AVX2, where there is one. The compiler must neither contract nor
   reorder: -ffp-contract=off, and no -ffast-math. It depends on nothing, not even on the C library. */

#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

const char built_from[] = BUILT_FROM; /* see scripts/hatch_build.py */

/* 0: not known yet; 1: without AVX2; 2: with it. Threads that ask at once get the same answer. */
static int instructions;

#if defined(__x86_64__)
#include <cpuid.h>
#define AVX2 __attribute__((target("avx2")))

/* Whether the processor has AVX2 and the system keeps its registers (Intel's manual, volume 1, 14.3). Asked once: where
   the machine is a virtual one, the question takes as long as a tile. */
static int has_avx2(void)
{
    int known = __atomic_load_n(&instructions, __ATOMIC_RELAXED);
    if (!known) {
        unsigned a, b, c, d, kept, rest;
        known = 1;
        if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_OSXSAVE) && (c & bit_AVX)) {
            __asm__("xgetbv" : "=a"(kept), "=d"(rest) : "c"(0));
            if ((kept & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2)) known = 2;
        }
        __atomic_store_n(&instructions, known, __ATOMIC_RELAXED);
    }
    return known == 2;
}
#else
#define AVX2
static int has_avx2(void) { return 0; }
#endif

/* From now on as a processor without AVX2 does it: for a test. */
void without_avx2(void) { __atomic_store_n(&instructions, 1, __ATOMIC_RELAXED); }

/* Exports NAME, which does what NAME_body does by the best instructions that there are. */
#define EXPORT(name, parameters, arguments)                                                                           \
    AVX2 static void name##_avx2 parameters { name##_body arguments; }                                                \
    void name parameters                                                                                              \
    {                                                                                                                 \
        if (has_avx2()) name##_avx2 arguments;                                                                        \
        else name##_body arguments;                                                                                   \
    }

/* The sum, the sum of squares, the least and the greatest of some numbers, one at least. RUN of them, whose sum of
   squares a `part` holds, are added at a time. */
#define RUN 4096
#define SUMS(name, type, part)                                                                                        \
    INLINE void sums_##name##_body(size_t count, const type *values, uint64_t *out)                                   \
    {                                                                                                                 \
        uint64_t sum = 0, squares = 0;                                                                                \
        type least = (type)-1, greatest = 0;                                                                          \
        while (count) {                                                                                               \
            const size_t some = count < RUN ? count : RUN;                                                            \
            part of_run = 0, squares_of_run = 0;                                                                      \
            for (size_t i = 0; i < some; i++) {                                                                       \
                const type value = values[i];                                                                         \
                of_run += value;                                                                                      \
                squares_of_run += (uint32_t)value * value;                                                            \
                least = value < least ? value : least;                                                                \
                greatest = value > greatest ? value : greatest;                                                       \
            }                                                                                                         \
            sum += of_run, squares += squares_of_run;                                                                 \
            values += some, count -= some;                                                                            \
        }                                                                                                             \
        out[0] = sum, out[1] = squares, out[2] = least, out[3] = greatest;                                            \
    }                                                                                                                 \
    EXPORT(sums_##name, (size_t count, const type *values, uint64_t *out), (count, values, out))

SUMS(uint8, uint8_t, uint32_t)
SUMS(uint16, uint16_t, uint64_t)

/* The average of 2 x 2, all of which count; whole numbers are rounded half up. `rows` are those of all bands;
   those of each, and the columns, are even in number. */
#define QUARTERS(name, type, wide, average)                                                                           \
    INLINE void quarters_##name##_body(size_t rows, size_t columns, const type *restrict tile, type *restrict out)    \
    {                                                                                                                 \
        for (; rows >= 2; rows -= 2, tile += 2 * columns, out += columns / 2)                                         \
            for (size_t i = 0; i < columns / 2; i++) {                                                                \
                const wide left = (wide)tile[2 * i] + (wide)tile[columns + 2 * i];                                    \
                const wide right = (wide)tile[2 * i + 1] + (wide)tile[columns + 2 * i + 1];                           \
                out[i] = (type)(average);                                                                             \
            }                                                                                                         \
    }                                                                                                                 \
    EXPORT(quarters_##name, (size_t rows, size_t columns, const type *tile, type *out), (rows, columns, tile, out))

QUARTERS(uint8, uint8_t, int32_t, (left + right + 2) >> 2)
QUARTERS(int8, int8_t, int32_t, (left + right + 2) >> 2)
QUARTERS(uint16, uint16_t, int32_t, (left + right + 2) >> 2)
QUARTERS(int16, int16_t, int32_t, (left + right + 2) >> 2)
QUARTERS(uint32, uint32_t, int64_t, (left + right + 2) >> 2)
QUARTERS(int32, int32_t, int64_t, (left + right + 2) >> 2)
QUARTERS(float32, float, float, (left + right) * 0.25f)
QUARTERS(float64, double, double, (left + right) * 0.25)

/* The nearest whole number; of two the greater. Those of 32 bits are converted several at a time. */
#define ROUNDED(name, type)                                                                                           \
    INLINE type name(double mean)                                                                                     \
    {                                                                                                                 \
        const double half_up = mean + 0.5;                                                                            \
        const type whole = (type)half_up;                                                                             \
        return whole - ((double)whole > half_up);                                                                     \
    }
ROUNDED(rounded, int32_t)
ROUNDED(rounded_long, int64_t)

/* The average of the valid ones of 2 pixels or, along an axis of odd length, of 3 by weight, of one band.

   rows, columns: of `tile` and of `valid`, each 0 or 1; NULL: all are.
   down, across: of each pixel of the result the weight of the one before its two, then of each that of its second one
   (that of its first is 1); NULL along an axis of even length. Where the second one is missing it counts nothing.
   special: what a pixel of no valid ones has; nodata; and, if `moves`, what an average has that equals it.
   scratch: 2 * (columns + 1); the first is 1 in the end if a sum was too large, and the result is to be made in another
   way. */
#define AVERAGES(name, type, bits_of_type, to_type)                                                                   \
    INLINE double valid_##name(type value, uint8_t valid) /* or 0, without a branch */                                \
    {                                                                                                                 \
        union {                                                                                                       \
            type value;                                                                                               \
            bits_of_type bits;                                                                                        \
        } shown = {value};                                                                                            \
        shown.bits &= (bits_of_type) - (bits_of_type)valid;                                                           \
        return (double)shown.value;                                                                                   \
    }                                                                                                                 \
    INLINE void averages_of_##name(size_t rows, size_t columns, const type *tile, const uint8_t *valid,               \
                                   const double *down, const double *across, size_t moves, const type *special,       \
                                   double *restrict scratch, type *restrict out)                                      \
    {                                                                                                                 \
        const size_t high = rows / 2, wide = columns / 2;                                                             \
        double *restrict sums = scratch, *restrict counts = scratch + columns + 1;                                    \
        uint64_t beyond = 0;                                                                                          \
        sums[columns] = counts[columns] = 0;                                                                          \
        for (size_t i = 0; i < high; i++, out += wide) {                                                              \
            const type *a = tile + 2 * i * columns, *b = a + columns, *c = b + columns;                               \
            const double before = down ? down[i] : 1, after = down ? down[high + i] : 0;                              \
            const int has_third = down && 2 * i + 2 < rows;                                                           \
            if (valid) {                                                                                              \
                const uint8_t *va = valid + 2 * i * columns, *vb = va + columns, *vc = vb + columns;                  \
                for (size_t j = 0; j < columns; j++) {                                                                \
                    sums[j] = valid_##name(a[j], va[j]) * before + valid_##name(b[j], vb[j]);                         \
                    counts[j] = (double)va[j] * before + (double)vb[j];                                               \
                }                                                                                                     \
                for (size_t j = 0; has_third && j < columns; j++) {                                                   \
                    sums[j] += valid_##name(c[j], vc[j]) * after;                                                     \
                    counts[j] += (double)vc[j] * after;                                                               \
                }                                                                                                     \
            } else {                                                                                                  \
                const double count = has_third ? before + 1 + after : before + 1;                                     \
                for (size_t j = 0; j < columns; j++) {                                                                \
                    sums[j] = (double)a[j] * before + (double)b[j];                                                   \
                    counts[j] = count;                                                                                \
                }                                                                                                     \
                for (size_t j = 0; has_third && j < columns; j++) sums[j] += (double)c[j] * after;                    \
            }                                                                                                         \
            for (size_t j = 0; down && !has_third && j < columns; j++) sums[j] += 0.0; /* of -0.0 it is 0.0 */        \
            for (size_t j = 0; j < wide; j++) {                                                                       \
                const double first = across ? across[j] : 1, third = across ? across[wide + j] : 0;                   \
                double sum = sums[2 * j] * first + sums[2 * j + 1];                                                   \
                double count = counts[2 * j] * first + counts[2 * j + 1];                                             \
                if (across) sum += sums[2 * j + 2] * third, count += counts[2 * j + 2] * third;                       \
                const int empty = count <= 0;                                                                         \
                const double mean = empty ? 0 : sum / count;                                                          \
                beyond |= mean - mean != 0;                                                                           \
                const type average = to_type(mean);                                                                   \
                const type moved = moves && average == special[1] ? special[2] : average;                             \
                out[j] = empty ? special[0] : moved;                                                                  \
            }                                                                                                         \
        }                                                                                                             \
        scratch[0] = (double)beyond;                                                                                  \
    }                                                                                                                 \
    INLINE void averages_##name##_body(size_t rows, size_t columns, const type *tile, const uint8_t *valid,           \
                                       const double *down, const double *across, size_t moves, const type *special,   \
                                       double *scratch, type *out)                                                    \
    {                                                                                                                 \
        if (across) averages_of_##name(rows, columns, tile, valid, down, across, moves, special, scratch, out);       \
        else averages_of_##name(rows, columns, tile, valid, down, NULL, moves, special, scratch, out);                \
    }                                                                                                                 \
    EXPORT(averages_##name,                                                                                           \
           (size_t rows, size_t columns, const type *tile, const uint8_t *valid, const double *down,                  \
            const double *across, size_t moves, const type *special, double *scratch, type *out),                     \
           (rows, columns, tile, valid, down, across, moves, special, scratch, out))

AVERAGES(uint8, uint8_t, uint8_t, (uint8_t)rounded)
AVERAGES(int8, int8_t, uint8_t, (int8_t)rounded)
AVERAGES(uint16, uint16_t, uint16_t, (uint16_t)rounded)
AVERAGES(int16, int16_t, uint16_t, (int16_t)rounded)
AVERAGES(uint32, uint32_t, uint32_t, (uint32_t)rounded_long)
AVERAGES(int32, int32_t, uint32_t, (int32_t)rounded_long)
AVERAGES(float32, float, uint32_t, (float))
AVERAGES(float64, double, uint64_t, (double))

/* The commonest of the valid pixels, one band; of several such the one that has so many first, from the top left.

   tile: of `columns` numbers a row; valid: likewise, or NULL: all are.
   down: the rows that each of `high` pixels covers, then the next row of each, `many_down` of each; -1: it covers none.
   across: likewise.
   empty: what a pixel has of which none counts. */
#define MODES(name, type)                                                                                             \
    INLINE void modes_##name##_body(size_t columns, const type *tile, const uint8_t *valid, size_t high,              \
                                    size_t many_down, const int64_t *down, size_t wide, size_t many_across,           \
                                    const int64_t *across, const type *empty, type *restrict out)                     \
    {                                                                                                                 \
        for (size_t i = 0; i < high; i++, out += wide) {                                                              \
            if (!valid && many_down == 2 && many_across == 2) {                                                       \
                const type *a = tile + 2 * i * columns, *b = a + columns;                                             \
                for (size_t j = 0; j < wide; j++) { /* as below, for four */                                          \
                    const type v0 = a[2 * j], v1 = a[2 * j + 1], v2 = b[2 * j], v3 = b[2 * j + 1];                    \
                    const type unlike = ((v3 == v1) | (v3 == v2)) ? v3 : v0;                                          \
                    out[j] = ((v0 == v1) | (v0 == v2)) ? v0 : v1 == v2 ? v1 : unlike;                                 \
                }                                                                                                     \
                continue;                                                                                             \
            }                                                                                                         \
            for (size_t j = 0; j < wide; j++) {                                                                       \
                type seen[9], commonest = *empty;                                                                     \
                unsigned many = 0, most = 0;                                                                          \
                for (size_t y = 0; y < many_down; y++) {                                                              \
                    const int64_t row = down[y * high + i];                                                           \
                    for (size_t x = 0; row >= 0 && x < many_across; x++) {                                            \
                        const int64_t column = across[x * wide + j];                                                  \
                        const size_t at = (size_t)row * columns + (size_t)column;                                     \
                        if (column < 0 || (valid && !valid[at])) continue;                                            \
                        unsigned often = 1;                                                                           \
                        for (unsigned n = 0; n < many; n++) often += seen[n] == tile[at];                             \
                        seen[many++] = tile[at];                                                                      \
                        if (often > most) most = often, commonest = tile[at];                                         \
                    }                                                                                                 \
                }                                                                                                     \
                out[j] = commonest;                                                                                   \
            }                                                                                                         \
        }                                                                                                             \
    }                                                                                                                 \
    EXPORT(modes_##name,                                                                                              \
           (size_t columns, const type *tile, const uint8_t *valid, size_t high, size_t many_down,                    \
            const int64_t *down, size_t wide, size_t many_across, const int64_t *across, const type *empty,           \
            type *out),                                                                                               \
           (columns, tile, valid, high, many_down, down, wide, many_across, across, empty, out))

MODES(uint8, uint8_t)
MODES(uint16, uint16_t)
MODES(uint32, uint32_t)

/* Calls what is made for each small number of bands: where it is a constant, numbers are put side by side many at a
   time. */
#define FOR_BANDS(does)                                                                                               \
    switch (bands) {                                                                                                  \
    case 1: does(1, rows, columns, tile, out); break;                                                                 \
    case 2: does(2, rows, columns, tile, out); break;                                                                 \
    case 3: does(3, rows, columns, tile, out); break;                                                                 \
    case 4: does(4, rows, columns, tile, out); break;                                                                 \
    default: does(bands, rows, columns, tile, out);                                                                   \
    }

/* Predictor 2: each number minus that of the pixel before, of the same band; `out` is (rows, columns, bands). */
#define DIFFERENCES(name, type)                                                                                       \
    INLINE void differences_of_##name(size_t bands, size_t rows, size_t columns, const type *restrict tile,           \
                                      type *restrict out)                                                             \
    {                                                                                                                 \
        const size_t band = rows * columns;                                                                           \
        for (; rows; rows--, tile += columns, out += columns * bands) {                                               \
            for (size_t b = 0; b < bands; b++) out[b] = tile[b * band];                                               \
            for (size_t i = 1; i < columns; i++)                                                                      \
                for (size_t b = 0; b < bands; b++)                                                                    \
                    out[i * bands + b] = (type)(tile[b * band + i] - tile[b * band + i - 1]);                         \
        }                                                                                                             \
    }                                                                                                                 \
    INLINE void differences_##name##_body(size_t bands, size_t rows, size_t columns, const type *tile, type *out)     \
    {                                                                                                                 \
        FOR_BANDS(differences_of_##name)                                                                              \
    }                                                                                                                 \
    EXPORT(differences_##name, (size_t bands, size_t rows, size_t columns, const type *tile, type *out),              \
           (bands, rows, columns, tile, out))

DIFFERENCES(uint8, uint8_t)
DIFFERENCES(uint16, uint16_t)
DIFFERENCES(uint32, uint32_t)

/* Predictor 3: the bytes of a row's numbers, the most significant of all first, and of those the differences. */
#define FLOAT_DIFFERENCES(name, type)                                                                                 \
    INLINE void float_differences_of_##name(size_t bands, size_t rows, size_t columns, const type *restrict tile,     \
                                            uint8_t *restrict out)                                                    \
    {                                                                                                                 \
        const size_t band = rows * columns, numbers = columns * bands, size = sizeof(type);                           \
        for (; rows; rows--, tile += columns, out += numbers * size) {                                                \
            for (size_t byte = 0; byte < size; byte++)                                                                \
                for (size_t i = 0; i < columns; i++)                                                                  \
                    for (size_t b = 0; b < bands; b++)                                                                \
                        out[byte * numbers + i * bands + b] =                                                         \
                            (uint8_t)(tile[b * band + i] >> 8 * (size - 1 - byte));                                   \
            for (size_t i = numbers * size - 1; i >= bands; i--) out[i] = (uint8_t)(out[i] - out[i - bands]);         \
        }                                                                                                             \
    }                                                                                                                 \
    INLINE void float_differences_##name##_body(size_t bands, size_t rows, size_t columns, const type *tile,          \
                                                uint8_t *out)                                                         \
    {                                                                                                                 \
        FOR_BANDS(float_differences_of_##name)                                                                        \
    }                                                                                                                 \
    EXPORT(float_differences_##name, (size_t bands, size_t rows, size_t columns, const type *tile, uint8_t *out),     \
           (bands, rows, columns, tile, out))

FLOAT_DIFFERENCES(uint32, uint32_t)
FLOAT_DIFFERENCES(uint64, uint64_t)
