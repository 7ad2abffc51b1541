//! Parameters and gradients as vectors: sums of squares, dot products, magnitudes, linear combinations.

use crate::{
    f32x4::{F32x4, LANES},
    rule::{LINE, Segment, for_each_block},
    scalar::MIN_NORMAL_F32,
};
use core::array::from_fn;

/// Writes the sum of the squares of the gradients `begin..end` to `sum`. The order of the additions depends only on
/// `begin` and `end`.
///
/// # Safety
/// As for [`crate::rule::run`]. The gradients in `segment` are valid for `end` elements.
#[inline(always)]
pub unsafe fn add_squares<V: F32x4>(segment: &Segment<0>, begin: usize, end: usize, sum: &mut f64) {
    *sum = sum_streams::<V>(begin, end, |i, sums| unsafe {
        let at = segment.grads.add(i);
        V::add_products_at(at, at, sums)
    });
}

/// Writes the dot product of the parameters and the gradients `begin..end` to `sum`, added in the order of
/// [`add_squares`].
///
/// # Safety
/// As for [`crate::rule::run`]. The parameters and gradients in `segment` are valid for `end` elements.
#[inline(always)]
pub unsafe fn dot<V: F32x4>(segment: &Segment<0>, begin: usize, end: usize, sum: &mut f64) {
    *sum = sum_streams::<V>(begin, end, |i, sums| unsafe {
        V::add_products_at(segment.params.add(i), segment.grads.add(i), sums)
    });
}

/// Sums a span, four elements at a time. Each of several streams has its own part of the span, so that an addition does
/// not wait for the one before.
#[inline(always)]
fn sum_streams<V: F32x4>(begin: usize, end: usize, add: impl Fn(usize, V::Sums) -> V::Sums) -> f64 {
    const PARTS: usize = 4;
    let mut sums = [V::NO_SUMS; PARTS];
    let part = (end - begin) / (PARTS * LANES) * LANES;
    let mut i = 0;
    while i < part {
        for (stream, sums) in sums.iter_mut().enumerate() {
            *sums = add(begin + stream * part + i, *sums);
        }
        i += LANES;
    }
    sums.into_iter().map(V::total).sum()
}

/// Writes the sum of the magnitudes of the gradients `begin..end`, and the largest magnitude, to `out`. The order of
/// the additions depends only on `begin` and `end`. A NaN appears in the sum, and not in the largest.
///
/// # Safety
/// The gradients in `segment` are valid for `end` elements.
#[inline(always)]
pub unsafe fn magnitude<V: F32x4>(segment: &Segment<0>, begin: usize, end: usize, out: &mut [f64; 2]) {
    let one = V::splat(1.0);
    let (mut sums, mut largest) = (V::NO_SUMS, V::splat(0.0));
    let mut i = begin;
    while i < end {
        let g = unsafe { V::load(segment.grads.add(i)) }.abs();
        sums = g.add_products(one, sums);
        largest = largest.max(g);
        i += LANES;
    }
    *out = [V::total(sums), f64::from(largest.reduce_max())];
}

/// Writes `a * params + b * grads` to the slot, for the elements `begin..end`, and then zeroes the gradients if the segment
/// says so. An array whose weight is zero is not read. With `a` of one and `b` of zero, it is an exact copy.
///
/// # Safety
/// `begin` and `end` are multiples of [`LINE`]. The slot in `segment` is valid for `end` elements, and so are the parameters
/// and the gradients unless their weight is zero. The slot is one of the other two arrays, or overlaps neither.
#[inline(always)]
pub unsafe fn combine<V: F32x4>([a, b]: [f64; 2], segment: &Segment<1>, begin: usize, end: usize) {
    let Segment { params, grads, zero_grad, slots: [out], .. } = *segment;
    let least = V::splat(if a == 1.0 && b == 0.0 { 0.0 } else { MIN_NORMAL_F32 });
    let (reads_params, reads_grads) = (a != 0.0, b != 0.0);
    let [a, b] = [a, b].map(V::splat);
    for_each_block(begin, end, false, segment.in_streams != 0, |start, stop| {
        for i in (start..stop).step_by(LINE) {
            let at = |k: usize| i + k * LANES;
            unsafe {
                let mut x = [V::splat(0.0); LINE / LANES];
                if reads_params {
                    x = from_fn(|k| a * V::load(params.add(at(k))));
                }
                if reads_grads {
                    x = from_fn(|k| x[k] + b * V::load(grads.add(at(k))));
                }
                for (k, x) in x.map(|x| x.zero_below(least)).into_iter().enumerate() {
                    x.store(out.add(at(k)));
                }
                if zero_grad != 0 {
                    for k in 0..LINE / LANES {
                        V::splat(0.0).store(grads.add(at(k)));
                    }
                }
            }
        }
    });
}

/// The sum of the squares of `len` elements, which need not be a multiple of four. It is added in one stream.
///
/// # Safety
/// `block` is valid for `len` elements.
#[inline(always)]
pub unsafe fn sum_of_squares<V: F32x4>(block: *const f32, len: usize) -> f64 {
    let mut sums = V::NO_SUMS;
    let whole = len / LANES * LANES;
    let mut i = 0;
    while i < whole {
        sums = unsafe { V::add_products_at(block.add(i), block.add(i), sums) };
        i += LANES;
    }
    let mut total = V::total(sums);
    for i in whole..len {
        let x = f64::from(unsafe { *block.add(i) });
        total += x * x;
    }
    total
}
