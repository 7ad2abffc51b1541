//! The arithmetic of rules, on vectors of four elements: [`Simd`] in WebAssembly, [`Scalar`] elsewhere. Both give the same
//! bits: operations on floating-point numbers are correctly rounded (IEEE 754) and have a fixed order, and the others
//! are integer arithmetic.

use core::ops::{Add, Div, Mul, Sub};

/// The number of elements of a vector.
pub const LANES: usize = 4;

/// Four elements of single precision.
pub trait F32x4: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// All elements set to `x`, rounded once.
    fn splat(x: f64) -> Self;
    /// The element `i` is `f(i)`.
    fn from_fn(f: impl Fn(usize) -> f32) -> Self;
    fn sqrt(self) -> Self;
    /// The larger of both. A NaN in `self` stays, and one in `other` is ignored. (This is one instruction on x86; a
    /// maximum that keeps both is five.)
    fn max(self, other: Self) -> Self;
    /// `other` where it is smaller, otherwise `self`. NaN as in `max`.
    fn min(self, other: Self) -> Self;
    /// 1 for a normal number above zero, -1 for one below. Zero and NaN stay.
    #[inline(always)]
    fn sign(self) -> Self {
        let [least, one, large] = [-1.0, 1.0, (1u128 << 127) as f64].map(Self::splat);
        (self * large).max(least).min(one) // comparisons would be twice as many operations
    }
    /// The magnitude. NaN stays.
    #[inline(always)]
    fn abs(self) -> Self {
        self.max(Self::splat(0.0) - self)
    }
    /// Zero where the magnitude is below `bound`, otherwise `self`.
    fn zero_below(self, bound: Self) -> Self;
    /// Zero where `other` is below zero, otherwise `self`.
    fn zero_where_negative(self, other: Self) -> Self;
    /// The nearest whole number; of two, the even one.
    fn round_ties_even(self) -> Self;
    /// For a normal number above zero, `(m, e)` with `self = m * 2^e`. Unlike C's `frexp`, it has `m` between the roots
    /// of a half and of two.
    fn frexp(self) -> (Self, Self);
    /// `self * 2^e`, for a whole number `e` in [-126, 127].
    fn ldexp(self, e: Self) -> Self;
    /// Two pseudo-random numbers in (0, 1) per element. They depend on the element's index and on the seeds only.
    /// `index` is that of the first element.
    fn random(index: u32, seeds: [u32; 2]) -> [Self; 2];

    /// One for elements before `end`, zero for others. `index` is that of the first element.
    fn ones_before(index: u32, end: u32) -> Self;

    /// # Safety
    /// `LANES` elements from `at` are readable.
    unsafe fn load(at: *const f32) -> Self;
    /// # Safety
    /// `LANES` elements from `at` are writable.
    unsafe fn store(self, at: *mut f32);
    /// Loads one element, followed by zeros.
    ///
    /// # Safety
    /// The element at `at` is readable.
    unsafe fn load_one(at: *const f32) -> Self;
    /// Stores the first element.
    ///
    /// # Safety
    /// The element at `at` is writable.
    unsafe fn store_one(self, at: *mut f32);
    /// The largest element.
    fn reduce_max(self) -> f32;

    /// Four sums in double precision, one per element.
    type Sums: Copy;
    const NO_SUMS: Self::Sums;
    /// Adds the products of the elements at `a` and at `b` to `sums`.
    ///
    /// # Safety
    /// `LANES` elements from `a` and from `b` are readable.
    unsafe fn add_products_at(a: *const f32, b: *const f32, sums: Self::Sums) -> Self::Sums;
    /// Adds the products of the elements of `self` and of `other` to `sums`.
    fn add_products(self, other: Self, sums: Self::Sums) -> Self::Sums;
    /// # Safety
    /// Four doubles from `at` are readable.
    unsafe fn load_sums(at: *const f64) -> Self::Sums;
    /// # Safety
    /// Four doubles from `at` are writable.
    unsafe fn store_sums(sums: Self::Sums, at: *mut f64);
    /// The total of the four sums.
    fn total(sums: Self::Sums) -> f64;
    /// The four sums times a factor, each rounded once.
    fn rounded(factor: f64, sums: Self::Sums) -> Self;
}

/// Calls `each(i, false)` for the start of every whole vector of `count` elements, then `each(i, true)` for every single
/// element after them.
#[inline(always)]
pub fn for_each_vector(count: usize, mut each: impl FnMut(usize, bool)) {
    let mut i = 0;
    while i + LANES <= count {
        each(i, false);
        i += LANES;
    }
    while i < count {
        each(i, true);
        i += 1;
    }
}

/// Loads a vector, or one element if `single`.
///
/// # Safety
/// The vector or the element at `at` is readable.
#[inline(always)]
pub unsafe fn load_vector<V: F32x4>(at: *const f32, single: bool) -> V {
    unsafe { if single { V::load_one(at) } else { V::load(at) } }
}

/// Stores a vector, or its first element if `single`.
///
/// # Safety
/// The vector or the element at `at` is writable.
#[inline(always)]
pub unsafe fn store_vector<V: F32x4>(x: V, at: *mut f32, single: bool) {
    unsafe { if single { x.store_one(at) } else { x.store(at) } }
}

/// The bits of the square root of a half.
const SQRT_HALF_BITS: u32 = 0x3f35_04f3;

/// The constants of the hash pcg3d: Jarzynski & Olano, 2020, after Knuth's linear congruential generator.
const PCG_MULTIPLIER: u32 = 1_664_525;
const PCG_INCREMENT: u32 = 1_013_904_223;

#[cfg(target_arch = "wasm32")]
pub use simd::{Simd, sqrt};

#[cfg(target_arch = "wasm32")]
mod simd {
    use super::*;
    use core::arch::wasm32::*;

    #[derive(Clone, Copy)]
    pub struct Simd(v128);

    macro_rules! operator {
        ($($trait:ident $method:ident $intrinsic:ident)*) => {$(
            impl $trait for Simd {
                type Output = Self;
                #[inline(always)]
                fn $method(self, other: Self) -> Self {
                    Self($intrinsic(self.0, other.0))
                }
            }
        )*};
    }
    operator! { Add add f32x4_add Sub sub f32x4_sub Mul mul f32x4_mul Div div f32x4_div }

    impl F32x4 for Simd {
        #[inline(always)]
        fn splat(x: f64) -> Self {
            Self(f32x4_splat(x as f32))
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            Self(f32x4_sqrt(self.0))
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Self(f32x4_pmax(self.0, other.0))
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            Self(f32x4_pmin(self.0, other.0))
        }
        #[inline(always)]
        fn zero_below(self, bound: Self) -> Self {
            let magnitude = v128_and(self.0, i32x4_splat(i32::MAX)); // f32x4_abs is slower in V8
            Self(v128_andnot(self.0, f32x4_lt(magnitude, bound.0)))
        }
        #[inline(always)]
        fn zero_where_negative(self, other: Self) -> Self {
            Self(v128_andnot(self.0, f32x4_lt(other.0, f32x4_splat(0.0))))
        }
        #[inline(always)]
        fn round_ties_even(self) -> Self {
            Self(f32x4_nearest(self.0))
        }
        #[inline(always)]
        fn frexp(self) -> (Self, Self) {
            let e = i32x4_shr(i32x4_sub(self.0, i32x4_splat(SQRT_HALF_BITS as i32)), 23);
            (Self(i32x4_sub(self.0, i32x4_shl(e, 23))), Self(f32x4_convert_i32x4(e)))
        }
        #[inline(always)]
        fn ldexp(self, e: Self) -> Self {
            let bits = i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(e.0), i32x4_splat(127)), 23);
            Self(f32x4_mul(self.0, bits))
        }
        #[inline(always)]
        fn random(index: u32, [a, b]: [u32; 2]) -> [Self; 2] {
            let index = i32x4_add(i32x4_splat(index as i32), i32x4(0, 1, 2, 3));
            let seeds = [index, i32x4_splat(a as i32), i32x4_splat(b as i32)];
            let mut v = seeds.map(|x| {
                i32x4_add(i32x4_mul(x, i32x4_splat(PCG_MULTIPLIER as i32)), i32x4_splat(PCG_INCREMENT as i32))
            });
            for _ in 0..2 {
                for i in 0..3 {
                    v[i] = i32x4_add(v[i], i32x4_mul(v[(i + 1) % 3], v[(i + 2) % 3]));
                }
                v = v.map(|x| v128_xor(x, u32x4_shr(x, 16)));
            }
            // The middle of one of 2^23 equal parts of the interval.
            let unit = |x| f32x4_sub(v128_or(u32x4_shr(x, 9), f32x4_splat(1.0)), f32x4_splat(1.0 - f32::EPSILON / 2.0));
            [Self(unit(v[0])), Self(unit(v[1]))]
        }
        #[inline(always)]
        fn ones_before(index: u32, end: u32) -> Self {
            let index = i32x4_add(i32x4_splat(index as i32), i32x4(0, 1, 2, 3));
            Self(v128_and(u32x4_lt(index, u32x4_splat(end)), f32x4_splat(1.0)))
        }
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            Self(unsafe { v128_load(at.cast()) })
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            unsafe { v128_store(at.cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn load_one(at: *const f32) -> Self {
            Self(unsafe { v128_load32_zero(at.cast()) })
        }
        #[inline(always)]
        unsafe fn store_one(self, at: *mut f32) {
            unsafe { v128_store32_lane::<0>(self.0, at.cast()) }
        }
        #[inline(always)]
        fn from_fn(f: impl Fn(usize) -> f32) -> Self {
            Self(f32x4(f(0), f(1), f(2), f(3)))
        }
        #[inline(always)]
        fn reduce_max(self) -> f32 {
            let pairs = f32x4_pmax(self.0, i32x4_shuffle::<2, 3, 0, 1>(self.0, self.0));
            f32x4_extract_lane::<0>(f32x4_pmax(pairs, i32x4_shuffle::<1, 0, 3, 2>(pairs, pairs)))
        }

        type Sums = [v128; 2];
        const NO_SUMS: [v128; 2] = [f64x2(0.0, 0.0); 2];
        #[inline(always)]
        unsafe fn add_products_at(a: *const f32, b: *const f32, sums: [v128; 2]) -> [v128; 2] {
            core::array::from_fn(|half| {
                let pair =
                    |of: *const f32| f64x2_promote_low_f32x4(unsafe { v128_load64_zero(of.add(2 * half).cast()) });
                f64x2_add(sums[half], f64x2_mul(pair(a), pair(b)))
            })
        }
        #[inline(always)]
        fn add_products(self, other: Self, [first, last]: [v128; 2]) -> [v128; 2] {
            let product = |a, b| f64x2_mul(f64x2_promote_low_f32x4(a), f64x2_promote_low_f32x4(b));
            let high = |x| i64x2_shuffle::<1, 1>(x, x);
            [f64x2_add(first, product(self.0, other.0)), f64x2_add(last, product(high(self.0), high(other.0)))]
        }
        #[inline(always)]
        unsafe fn load_sums(at: *const f64) -> [v128; 2] {
            unsafe { [v128_load(at.cast()), v128_load(at.add(2).cast())] }
        }
        #[inline(always)]
        unsafe fn store_sums([low, high]: [v128; 2], at: *mut f64) {
            unsafe {
                v128_store(at.cast(), low);
                v128_store(at.add(2).cast(), high);
            }
        }
        #[inline(always)]
        fn total([first, last]: [v128; 2]) -> f64 {
            let sum = |pair| f64x2_extract_lane::<0>(pair) + f64x2_extract_lane::<1>(pair);
            sum(first) + sum(last)
        }
        #[inline(always)]
        fn rounded(factor: f64, sums: [v128; 2]) -> Self {
            let [first, last] = sums.map(|pair| f32x4_demote_f64x2_zero(f64x2_mul(f64x2_splat(factor), pair)));
            Self(i32x4_shuffle::<0, 1, 4, 5>(first, last))
        }
    }

    /// The square root of a scalar (`f64::sqrt` needs std).
    #[inline(always)]
    pub fn sqrt(x: f64) -> f64 {
        f64x2_extract_lane::<0>(f64x2_sqrt(f64x2_splat(x)))
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use scalar::{Scalar, sqrt};

#[cfg(not(target_arch = "wasm32"))]
mod scalar {
    use super::*;

    #[derive(Clone, Copy)]
    pub struct Scalar([f32; LANES]);

    impl Scalar {
        fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
            Self(core::array::from_fn(|i| f(self.0[i], other.0[i])))
        }
    }

    macro_rules! operator {
        ($($trait:ident $method:ident $op:tt)*) => {$(
            impl $trait for Scalar {
                type Output = Self;
                fn $method(self, other: Self) -> Self {
                    self.zip(other, |a, b| a $op b)
                }
            }
        )*};
    }
    operator! { Add add + Sub sub - Mul mul * Div div / }

    impl F32x4 for Scalar {
        fn splat(x: f64) -> Self {
            Self([x as f32; LANES])
        }
        fn sqrt(self) -> Self {
            Self(self.0.map(f32::sqrt))
        }
        fn max(self, other: Self) -> Self {
            self.zip(other, |a, b| if a < b { b } else { a })
        }
        fn min(self, other: Self) -> Self {
            self.zip(other, |a, b| if b < a { b } else { a })
        }
        fn zero_below(self, bound: Self) -> Self {
            self.zip(bound, |x, bound| if x.abs() < bound { 0.0 } else { x })
        }
        fn zero_where_negative(self, other: Self) -> Self {
            self.zip(other, |x, other| if other < 0.0 { 0.0 } else { x })
        }
        fn round_ties_even(self) -> Self {
            Self(self.0.map(f32::round_ties_even))
        }
        fn frexp(self) -> (Self, Self) {
            let e = |x: f32| (x.to_bits().wrapping_sub(SQRT_HALF_BITS) as i32) >> 23;
            (
                Self(self.0.map(|x| f32::from_bits(x.to_bits().wrapping_sub((e(x) << 23) as u32)))),
                Self(self.0.map(|x| e(x) as f32)),
            )
        }
        fn ldexp(self, e: Self) -> Self {
            self.zip(e, |x, e| x * f32::from_bits((e as i32).wrapping_add(127).wrapping_shl(23) as u32))
        }
        fn random(index: u32, [a, b]: [u32; 2]) -> [Self; 2] {
            let of = |place: usize| {
                let mut v = [index.wrapping_add(place as u32), a, b]
                    .map(|x| x.wrapping_mul(PCG_MULTIPLIER).wrapping_add(PCG_INCREMENT));
                for _ in 0..2 {
                    for i in 0..3 {
                        v[i] = v[i].wrapping_add(v[(i + 1) % 3].wrapping_mul(v[(i + 2) % 3]));
                    }
                    v = v.map(|x| x ^ (x >> 16));
                }
                v.map(|x| f32::from_bits(x >> 9 | 0x3f80_0000) - (1.0 - f32::EPSILON / 2.0))
            };
            [0, 1].map(|which| Self(core::array::from_fn(|place| of(place)[which])))
        }
        fn ones_before(index: u32, end: u32) -> Self {
            Self(core::array::from_fn(|place| f32::from(u8::from(index.wrapping_add(place as u32) < end))))
        }
        unsafe fn load(at: *const f32) -> Self {
            Self(unsafe { at.cast::<[f32; LANES]>().read() })
        }
        unsafe fn store(self, at: *mut f32) {
            unsafe { at.cast::<[f32; LANES]>().write(self.0) }
        }
        unsafe fn load_one(at: *const f32) -> Self {
            Self([unsafe { *at }, 0.0, 0.0, 0.0])
        }
        unsafe fn store_one(self, at: *mut f32) {
            unsafe { *at = self.0[0] }
        }
        fn from_fn(f: impl Fn(usize) -> f32) -> Self {
            Self(core::array::from_fn(f))
        }
        fn reduce_max(self) -> f32 {
            let larger = |a, b| if a < b { b } else { a };
            let [a, b, c, d] = self.0;
            larger(larger(a, c), larger(b, d))
        }

        type Sums = [f64; LANES];
        const NO_SUMS: [f64; LANES] = [0.0; LANES];
        unsafe fn add_products_at(a: *const f32, b: *const f32, sums: [f64; LANES]) -> [f64; LANES] {
            unsafe { Self::load(a).add_products(Self::load(b), sums) }
        }
        fn add_products(self, other: Self, sums: [f64; LANES]) -> [f64; LANES] {
            core::array::from_fn(|i| sums[i] + f64::from(self.0[i]) * f64::from(other.0[i]))
        }
        unsafe fn load_sums(at: *const f64) -> [f64; LANES] {
            unsafe { *at.cast() }
        }
        unsafe fn store_sums(sums: [f64; LANES], at: *mut f64) {
            unsafe { *at.cast() = sums }
        }
        fn total([a, b, c, d]: [f64; LANES]) -> f64 {
            (a + b) + (c + d)
        }
        fn rounded(factor: f64, sums: [f64; LANES]) -> Self {
            Self(sums.map(|x| (factor * x) as f32))
        }
    }

    pub fn sqrt(x: f64) -> f64 {
        x.sqrt()
    }
}
