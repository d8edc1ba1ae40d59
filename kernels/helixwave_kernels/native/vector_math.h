/* Elementary functions without branches or calls, so that plain loops over them vectorise.

   Exact to a few units in the last place; right at infinities and for NaN. Results close to the smallest normal number
   and below may be zero. The polynomials are minimax fits of the function named beside them. */

/* p[0] + p[1] x + ... */
INLINE REAL NAME(polynomial)(const REAL *p, int degree, REAL x) {
    REAL sum = p[degree];
    for (int i = degree - 1; i >= 0; i--)
        sum = sum * x + p[i];
    return sum;
}

INLINE BITS NAME(to_bits)(REAL x) {
    BITS bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE REAL NAME(from_bits)(BITS bits) {
    REAL x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#if IS_DOUBLE
#define MANTISSA 52
#define BIAS 1023
/* adding it rounds to an integer, which then stands in the low bits */
#define ROUNDER 6755399441055744.0
#define LN2_HIGH 0.693147180369123816490
#define LN2_LOW 1.90821492927058770002e-10
#else
#define MANTISSA 23
#define BIAS 127
#define ROUNDER 12582912.0f
#define LN2_HIGH 0.693145751953125f
#define LN2_LOW 1.42860682030941723212e-6f
#endif
/* there the exponent's bits come out as those of zero and of infinity */
#define EXP2_LOWEST ((REAL)(IS_DOUBLE ? -1023 : -127))
#define EXP2_HIGHEST ((REAL)(IS_DOUBLE ? 1024 : 128))
#define LOG2E ((REAL)1.44269504088896340736)
#define INFINITE ((REAL)(1e300 * 1e300))
/* beyond these, exp is zero or infinite */
#define LOWEST ((REAL)(IS_DOUBLE ? -708.0 : -87.0))
#define HIGHEST ((REAL)(IS_DOUBLE ? 709.782712893383973096 : 88.72283172607421875))

/* exp(x) = 2^n (1 + rest) for x between LOWEST and HIGHEST; the low bits of `rounded` are those of n. */
INLINE void NAME(exp_parts)(REAL x, REAL *rounded, REAL *rest) {
#if IS_DOUBLE /* (exp(r) - 1) / r */
    static const REAL p[] = {1.0,
                             0.500000000000001262,
                             0.166666666666662127,
                             0.0416666666665166403,
                             0.0083333333335514232,
                             0.0013888888946696725,
                             0.000198412694343717592,
                             0.0000248014902507762969,
                             2.75576279242762711e-6,
                             2.76311810925778195e-7,
                             2.49913123410849982e-8};
#else
    static const REAL p[] = {1.00000006507141947f,  0.500000008127284526f, 0.166663243302596482f,
                             0.0416662390455999306f, 0.00838120484614131819f, 0.00139486978734361145f};
#endif
    *rounded = x * LOG2E + ROUNDER;
    REAL n = *rounded - ROUNDER;
    REAL r = x - n * LN2_HIGH - n * LN2_LOW;
    *rest = r * NAME(polynomial)(p, IS_DOUBLE ? 10 : 5, r);
}

INLINE REAL NAME(exp)(REAL x) {
    REAL rounded, rest;
    NAME(exp_parts)(x, &rounded, &rest);
    REAL result = NAME(from_bits)(NAME(to_bits)(1 + rest) + (NAME(to_bits)(rounded) << MANTISSA));
    result = x < LOWEST ? 0 : result;
    return x > HIGHEST ? INFINITE : result;
}

INLINE REAL NAME(expm1)(REAL x) {
    REAL clamped = x < LOWEST ? LOWEST : x, rounded, rest;
    NAME(exp_parts)(clamped, &rounded, &rest);
    /* half of 2^n has no overflow where exp has none */
    REAL half = NAME(from_bits)((NAME(to_bits)(rounded) + (BIAS - 1)) << MANTISSA);
    REAL result = ((half - (REAL)0.5) + half * rest) * 2;
    return x > HIGHEST ? INFINITE : result;
}

/* 2^x for x between EXP2_LOWEST and EXP2_HIGHEST */
INLINE REAL NAME(exp2_inside)(REAL x) {
#if IS_DOUBLE /* (2^r - 1) / r */
    static const REAL p[] = {1.0,
                             0.693147180559945326,
                             0.240226506959101319,
                             0.0555041086648200682,
                             0.00961812910759384577,
                             0.00133335581467773939,
                             0.000154035304574936634,
                             0.0000152527334912613054,
                             1.32154350767586412e-6,
                             1.01782000255485987e-7,
                             7.07382089893056225e-9,
                             4.43474988627375228e-10};
#else
    static const REAL p[] = {1.0f,
                             0.693146976384178915f,
                             0.240222404609461962f,
                             0.055507350300809002f,
                             0.00967161898521380419f,
                             0.00132645911579541755f};
#endif
    REAL rounded = x + ROUNDER;
    REAL r = x - (rounded - ROUNDER);
    BITS power = NAME(to_bits)(NAME(polynomial)(p, IS_DOUBLE ? 11 : 5, r));
    return NAME(from_bits)(power + (NAME(to_bits)(rounded) << MANTISSA));
}

/* 2^x for inner loops: `lowest` must be EXP2_LOWEST and `highest` EXP2_HIGHEST. Handed over in variables they make a
   minimum and a maximum; of constants the compiler makes cases of their own, which take longer. */
INLINE REAL NAME(exp2_between)(REAL x, REAL lowest, REAL highest) {
    REAL clamped = x < lowest ? lowest : x;
    return NAME(exp2_inside)(clamped > highest ? highest : clamped);
}

INLINE REAL NAME(exp2)(REAL x) { return NAME(exp2_between)(x, EXP2_LOWEST, EXP2_HIGHEST); }

/* log(1 + x) for x in [0, 1] */
INLINE REAL NAME(log1p)(REAL x) {
#if IS_DOUBLE /* atanh(s) / s, by powers of s^2 */
    static const REAL p[] = {1.0,
                             0.33333333333333329,
                             0.200000000000038759,
                             0.142857142843716246,
                             0.111111113439117858,
                             0.0909088644656061748,
                             0.076935985304476101,
                             0.0662398079093173184,
                             0.0663465023826140816};
    /* log(1 + x) = 2 atanh(s); log(2) + log((1 + x) / 2) keeps s small */
    int far = x > (REAL)0.41421356;
    REAL s = (far ? x - 1 : x) / (far ? x + 3 : x + 2);
    REAL twice = 2 * s * NAME(polynomial)(p, 8, s * s);
    return far ? (REAL)0.693147180559945309417 + twice : twice;
#else /* log(1 + x) / x: few enough terms, and no division */
    static const REAL p[] = {1.0f,           -0.499994931f, 0.333190968f,   -0.248429822f, 0.191060068f,
                             -0.136632458f, 0.0782259521f, -0.0295052389f, 0.0052326943f};
    return x * NAME(polynomial)(p, 8, x);
#endif
}

INLINE REAL NAME(sigmoid)(REAL x) { return 1 / (1 + NAME(exp)(-x)); }

INLINE REAL NAME(silu)(REAL x) { return x / (1 + NAME(exp)(-x)); }

INLINE REAL NAME(tanh)(REAL x) {
    REAL size = x < 0 ? -x : x;
    REAL minus = NAME(expm1)(-2 * size);
    REAL result = -minus / (2 + minus);
    return x < 0 ? -result : result;
}

/* log(1 + exp(x)) */
INLINE REAL NAME(log1p_exp)(REAL x) {
    REAL size = x < 0 ? -x : x;
    return (x < 0 ? 0 : x) + NAME(log1p)(NAME(exp)(-size));
}

INLINE REAL NAME(log_sigmoid)(REAL x) { return -NAME(log1p_exp)(-x); }

/* linear above 20, as in torch; in float32 it is so by itself */
INLINE REAL NAME(softplus)(REAL x) {
    REAL result = NAME(log1p_exp)(x);
    return IS_DOUBLE && x > 20 ? x : result;
}

#undef MANTISSA
#undef BIAS
#undef ROUNDER
#undef LN2_HIGH
#undef LN2_LOW
#undef LOWEST
#undef HIGHEST

#define EXP NAME(exp)
#define EXP2 NAME(exp2)
#define EXP2_INSIDE NAME(exp2_inside)
#define EXP2_BETWEEN NAME(exp2_between)
#define EXPM1 NAME(expm1)
#define LOG1P NAME(log1p)
#define SIGMOID NAME(sigmoid)
#define SILU NAME(silu)
#define TANH NAME(tanh)
#define LOG_SIGMOID NAME(log_sigmoid)
#define SOFTPLUS NAME(softplus)
