//! The arithmetic a rule may use, on four elements at once: [`Simd`] in WebAssembly, [`Scalar`] anywhere.
//! Both give the same bits, because every operation here is one correctly rounded IEEE 754 operation.

use core::ops::{Add, Div, Mul, Sub};

/// How many elements stand in a lane.
pub const WIDTH: usize = 4;

pub trait Lane: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// All four elements set to `x`, rounded once.
    fn splat(x: f64) -> Self;
    fn sqrt(self) -> Self;
    /// `other` where it is larger, otherwise `self`: a NaN in `self` stays, one in `other` is passed over.
    /// (A maximum that minds both is five instructions on x86, this is one.)
    fn max(self, other: Self) -> Self;
    /// `other` where it is smaller, otherwise `self`; as to NaN, as `max`.
    fn min(self, other: Self) -> Self;
    /// 1 or -1 as the element is above zero or below; zero and NaN stay.
    fn sign(self) -> Self;
    /// Zero in place of every element nearer to it than the bound.
    fn zero_below(self, bound: Self) -> Self;

    /// # Safety
    /// `WIDTH` elements from `at` are readable.
    unsafe fn load(at: *const f32) -> Self;
    /// # Safety
    /// `WIDTH` elements from `at` are writable.
    unsafe fn store(self, at: *mut f32);

    /// Four sums in double precision, one a place.
    type Sums: Copy;
    const NOTHING: Self::Sums;
    /// The sums with the squares of the elements from `at` added, each to its own.
    /// # Safety
    /// As for `load`.
    unsafe fn add_squares(at: *const f32, sums: Self::Sums) -> Self::Sums;
    fn total(sums: Self::Sums) -> f64;
}

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

    impl Lane for Simd {
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
        fn sign(self) -> Self {
            let zero = f32x4_splat(0.0);
            let one = v128_or(v128_and(self.0, f32x4_splat(-0.0)), f32x4_splat(1.0));
            // Zero and NaN: neither above nor below.
            let signed = v128_or(f32x4_lt(self.0, zero), f32x4_gt(self.0, zero));
            Self(v128_bitselect(one, self.0, signed))
        }
        #[inline(always)]
        fn zero_below(self, bound: Self) -> Self {
            let magnitude = v128_and(self.0, i32x4_splat(i32::MAX)); // f32x4_abs is slower in V8
            Self(v128_andnot(self.0, f32x4_lt(magnitude, bound.0)))
        }
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            Self(unsafe { v128_load(at.cast()) })
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            unsafe { v128_store(at.cast(), self.0) }
        }

        type Sums = [v128; 2];
        const NOTHING: [v128; 2] = [f64x2(0.0, 0.0); 2];
        #[inline(always)]
        unsafe fn add_squares(at: *const f32, sums: [v128; 2]) -> [v128; 2] {
            core::array::from_fn(|half| {
                let pair = f64x2_promote_low_f32x4(unsafe { v128_load64_zero(at.add(2 * half).cast()) });
                f64x2_add(sums[half], f64x2_mul(pair, pair))
            })
        }
        #[inline(always)]
        fn total([first, last]: [v128; 2]) -> f64 {
            let sum = |pair| f64x2_extract_lane::<0>(pair) + f64x2_extract_lane::<1>(pair);
            sum(first) + sum(last)
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
    pub struct Scalar([f32; WIDTH]);

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

    impl Lane for Scalar {
        fn splat(x: f64) -> Self {
            Self([x as f32; WIDTH])
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
        fn sign(self) -> Self {
            Self(self.0.map(|x| {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            }))
        }
        fn zero_below(self, bound: Self) -> Self {
            self.zip(bound, |x, bound| if x.abs() < bound { 0.0 } else { x })
        }
        unsafe fn load(at: *const f32) -> Self {
            Self(unsafe { at.cast::<[f32; WIDTH]>().read() })
        }
        unsafe fn store(self, at: *mut f32) {
            unsafe { at.cast::<[f32; WIDTH]>().write(self.0) }
        }

        type Sums = [f64; WIDTH];
        const NOTHING: [f64; WIDTH] = [0.0; WIDTH];
        unsafe fn add_squares(at: *const f32, sums: [f64; WIDTH]) -> [f64; WIDTH] {
            core::array::from_fn(|i| {
                let x = f64::from(unsafe { *at.add(i) });
                sums[i] + x * x
            })
        }
        fn total([a, b, c, d]: [f64; WIDTH]) -> f64 {
            (a + b) + (c + d)
        }
    }

    pub fn sqrt(x: f64) -> f64 {
        x.sqrt()
    }
}
