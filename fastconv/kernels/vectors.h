/* Vectors are the GCC and Clang extension, as long as those of the instruction set that the file is
 * compiled for. */
#ifndef FASTCONV_VECTORS_H
#define FASTCONV_VECTORS_H

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define VECTOR_REGISTERS 32
#define VECTOR_INTRINSIC(name) _mm512_##name
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define VECTOR_REGISTERS 16
#define VECTOR_INTRINSIC(name) _mm256_##name
#else
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 16
#define VECTOR_INTRINSIC(name) _mm_##name
#endif

/* Before a loop over accumulators, so that they never leave the registers: GCC unrolls other loops
 * when it has put their array in memory. */
#define UNROLLED _Pragma("GCC unroll 18")

/* The number of each lane: what is computed of these is a constant, of a loop over 16 lanes GCC
 * does not make one. */
#define VECTOR_LANES {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

#endif
