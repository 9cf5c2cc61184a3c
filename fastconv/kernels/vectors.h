/* Vectors are the GCC and Clang extension, as long as those of the instruction set that the file is
 * compiled for. */
#ifndef FASTCONV_VECTORS_H
#define FASTCONV_VECTORS_H

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define VECTOR_INTRINSIC(name) _mm512_##name
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define VECTOR_INTRINSIC(name) _mm256_##name
#else
#define VECTOR_BYTES 16
#define VECTOR_INTRINSIC(name) _mm_##name
#endif

#endif
