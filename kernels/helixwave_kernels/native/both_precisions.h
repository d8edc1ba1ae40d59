/* Reads the file named by THIS_FILE twice: REAL is float, then double; NAME(f) is f_f32, then f_f64. */
#include "machine.h"

#define IS_DOUBLE 0
#define REAL float
#define BITS uint32_t
#define NAME(name) name##_f32
#include "vector_math.h"
#include THIS_FILE
#undef IS_DOUBLE
#undef REAL
#undef BITS
#undef NAME

#define IS_DOUBLE 1
#define REAL double
#define BITS uint64_t
#define NAME(name) name##_f64
#include "vector_math.h"
#include THIS_FILE
