/* Copyright the bloctrain authors. Licence: Apache-2.0.
 *
 * What one core's vector units reach from registers, and additions of rows from the first cache, for the tables of
 * docs/performance.md. For x86-64 with AVX-512, VNNI and BF16:
 *
 *   cc -O3 -mavx512f -mavx512bw -mavx512vnni -mavx512bf16 benches/peak.c -o peak && taskset -c 0 ./peak
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

enum { ACCUMULATORS = 16, ROUNDS = 20000000 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

/* Without it the accumulators lie in memory. */
#define UNROLLED _Pragma("GCC unroll 16")

/* Runs `value = STEP` on independent accumulators, each a vector of TYPE with OPERATIONS operations. */
#define PEAK(NAME, OPERATIONS, TYPE, START, STEP)                                        \
    do {                                                                                 \
        TYPE accumulators[ACCUMULATORS];                                                 \
        /* The compiler is not to see that all are the same. */                          \
        UNROLLED for (int i = 0; i < ACCUMULATORS; i++) {                                \
            accumulators[i] = START;                                                     \
            __asm__ volatile("" : "+v"(accumulators[i]));                                \
        }                                                                                \
        double begun = now();                                                            \
        for (long n = 0; n < ROUNDS; n++) {                                              \
            UNROLLED for (int i = 0; i < ACCUMULATORS; i++) {                            \
                TYPE value = accumulators[i];                                            \
                accumulators[i] = STEP;                                                  \
            }                                                                            \
            /* Without this the compiler may do several rounds at once. */               \
            __asm__ volatile("" : "+v"(accumulators[0]));                                \
        }                                                                                \
        double seconds = now() - begun;                                                  \
        UNROLLED for (int i = 0; i < ACCUMULATORS; i++)                                  \
            __asm__ volatile("" ::"v"(accumulators[i]));                                 \
        printf("%-28s %6.1f\n", NAME, 1e-9 * ROUNDS * ACCUMULATORS * OPERATIONS / seconds); \
    } while (0)

int main(void) {
    static float rows[4096] __attribute__((aligned(64)));
    __m512 x = _mm512_set1_ps(1.0001f), y = _mm512_set1_ps(0.9f);
    __m512bh half_x = (__m512bh)_mm512_set1_epi32(0x3f803f80), half_y = (__m512bh)_mm512_set1_epi32(0x3c003c00);
    __m512i short_x = _mm512_set1_epi16(1), short_y = _mm512_set1_epi16(3);
    __m512i byte_x = _mm512_set1_epi8(1), byte_y = _mm512_set1_epi8(3);
    puts("billions a second, one core");
    PEAK("f32, multiply-adds", 16, __m512, x, _mm512_fmadd_ps(value, x, y));
    PEAK("bf16, multiply-adds", 32, __m512, x, _mm512_dpbf16_ps(value, half_x, half_y));
    PEAK("int16, multiply-adds", 32, __m512i, short_x, _mm512_dpwssd_epi32(value, short_x, short_y));
    PEAK("int8, multiply-adds", 64, __m512i, byte_x, _mm512_dpbusd_epi32(value, byte_x, byte_y));
    PEAK("f32 rows, additions", 16, __m512, x,
         _mm512_add_ps(value, _mm512_load_ps(rows + (((n * 16 + i) * 16) & 4095))));
    return 0;
}
