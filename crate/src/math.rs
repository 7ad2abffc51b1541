//! Powers and normally distributed numbers, element by element. They consist of sums and products, so their bits are
//! the same everywhere.

use crate::{f32x4::F32x4, scalar::MIN_NORMAL_F32};
use core::f64::consts::{LN_2, TAU};

/// `a[0] + x * (a[1] + x * (…))`.
#[inline(always)]
fn polynomial<V: F32x4>(x: V, coefficients: &[f64]) -> V {
    let (last, others) = coefficients.split_last().expect("a coefficient");
    others.iter().rfold(V::splat(*last), |sum, &a| sum * x + V::splat(a))
}

/// The binary logarithm of a normal number above zero. Its error is at most 2e-7, relative to the logarithm or to one.
#[inline(always)]
fn log2<V: F32x4>(x: V) -> V {
    let (m, e) = x.frexp();
    let one = V::splat(1.0);
    let s = (m - one) / (m + one);
    // The series of 2 / ln 2 * artanh(s).
    const COEFFICIENTS: [f64; 5] =
        [2.885_390_081_777_927, 0.961_796_693_925_976, 0.577_078_016_355_585, 0.412_198_583_111_132, 0.320_598_898_653];
    e + s * polynomial(s * s, &COEFFICIENTS)
}

/// Two to the power of `x`, a number in [-126, 127].
#[inline(always)]
fn exp2<V: F32x4>(x: V) -> V {
    let whole = x.round_ties_even();
    // Powers of ln 2 over factorials.
    const COEFFICIENTS: [f64; 8] = [
        1.0,
        LN_2,
        0.240_226_506_959_101,
        0.055_504_108_664_822,
        0.009_618_129_107_628,
        0.001_333_355_814_642,
        0.000_154_035_303_933,
        0.000_015_252_733_804,
    ];
    polynomial(x - whole, &COEFFICIENTS).ldexp(whole)
}

/// `x`, zero or more, to the power of `exponent`, in [0, 1). Zero counts as the smallest normal number. Infinity gives
/// NaN.
#[inline(always)]
pub fn powf<V: F32x4>(x: V, exponent: V) -> V {
    exp2(exponent * log2(x.max(V::splat(MIN_NORMAL_F32)))) + x * V::splat(0.0)
}

/// A normally distributed number per element, with mean zero and variance one, by Box and Muller's method. The
/// arguments are those of [`F32x4::random`].
#[inline(always)]
pub fn normal<V: F32x4>(index: u32, seeds: [u32; 2]) -> V {
    let [u, turn] = V::random(index, seeds);
    let radius = (V::splat(-2.0 * LN_2) * log2(u)).sqrt();
    // cos(2π * turn) = sin(2π * x), with x = |turn - 1/2| - 1/4 in [-1/4, 1/4].
    let [half, quarter] = [0.5, 0.25].map(V::splat);
    let fold = turn - half;
    let x = fold.abs() - quarter;
    const COEFFICIENTS: [f64; 6] = [
        TAU,
        -41.341_702_240_399_76,
        81.605_249_276_075_05,
        -76.705_859_753_061_4,
        42.058_693_944_897_65,
        -15.094_642_576_822_98,
    ];
    radius * (x * polynomial(x * x, &COEFFICIENTS))
}
