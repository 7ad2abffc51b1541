//! Adaptive gradient clipping: by the norms of the units of a tensor.

use crate::{
    f32x4::{F32x4, sqrt},
    rule::Segment,
    vector::sum_of_squares,
};

/// The arguments of [`sum_units`] and [`clip_units`].
#[repr(C)]
pub struct Units {
    /// The largest norm of a unit's gradient, as a multiple of the norm of its parameters.
    pub clip_factor: f64,
    /// Elements of a unit (a row of a matrix, or a filter).
    pub unit_len: f64,
    /// Elements of all units.
    pub len: f64,
    /// For each block of each unit, the sums of the squares of its parameters and of its gradients. Null if a unit is
    /// one block.
    pub sums: *mut [f64; 2],
}

/// Elements of a block: the part of a unit that one thread sums up.
const BLOCK: usize = 65_536;

impl Units {
    /// Calls `each(unit, block, start, len)` for the blocks that begin in `begin..end`.
    #[inline(always)]
    fn for_blocks_in(&self, begin: usize, end: usize, mut each: impl FnMut(usize, usize, usize, usize)) {
        let (unit_len, len) = ((self.unit_len as usize).max(1), self.len as usize);
        let end = end.min(len);
        let mut unit = begin / unit_len;
        let mut block = (begin - unit * unit_len).div_ceil(BLOCK);
        loop {
            if block * BLOCK >= unit_len {
                [unit, block] = [unit + 1, 0];
            }
            let start = unit * unit_len + block * BLOCK;
            if start >= end {
                return;
            }
            each(unit, block, start, BLOCK.min(unit_len - block * BLOCK));
            block += 1;
        }
    }

    /// Blocks of a unit.
    fn blocks(&self) -> usize {
        (self.unit_len as usize).div_ceil(BLOCK).max(1)
    }
}

/// The sums of the squares of the parameters and of the gradients in a block.
#[inline(always)]
unsafe fn block_sums<V: F32x4>(segment: &Segment<0>, start: usize, len: usize) -> [f64; 2] {
    [segment.params, segment.grads].map(|block| unsafe { sum_of_squares::<V>(block.add(start), len) })
}

/// Writes the sums of the blocks that begin in `begin..end`, for units of several blocks.
///
/// # Safety
/// - The parameters and gradients in `segment` are valid for `units.len` elements.
/// - `units.sums` is valid for the blocks of all units.
#[inline(always)]
pub unsafe fn sum_units<V: F32x4>(units: &Units, segment: &Segment<0>, begin: usize, end: usize) {
    let blocks = units.blocks();
    units.for_blocks_in(begin, end, |unit, block, start, len| unsafe {
        *units.sums.add(unit * blocks + block) = block_sums::<V>(segment, start, len);
    });
}

/// Adaptive gradient clipping: Brock, De, Smith & Simonyan, 2021. Scales the gradient of each unit in place, if its norm
/// is too large for the norm of the unit's parameters: in the blocks that begin in `begin..end`.
///
/// # Safety
/// - The parameters and gradients in `segment` are valid for `units.len` elements.
/// - `units.sums` is null, or has the sums of all blocks.
#[inline(always)]
pub unsafe fn clip_units<V: F32x4>(units: &Units, segment: &Segment<0>, begin: usize, end: usize) {
    /// The lower bound of the norm of a unit's parameters. Without it, gradients of parameters that are all zero would
    /// be scaled to zero, so these parameters would never change.
    const LEAST_NORM: f64 = 1e-3;
    let blocks = units.blocks();
    units.for_blocks_in(begin, end, |unit, _, start, len| {
        let mut total = [0.0; 2];
        if units.sums.is_null() {
            total = unsafe { block_sums::<V>(segment, start, len) };
        } else {
            for block in 0..blocks {
                let sums = unsafe { *units.sums.add(unit * blocks + block) };
                total = [total[0] + sums[0], total[1] + sums[1]];
            }
        }
        let [param_norm, grad_norm] = total.map(sqrt);
        let max_norm = units.clip_factor * if param_norm > LEAST_NORM { param_norm } else { LEAST_NORM };
        let norm = grad_norm * segment.grad_scale.abs();
        if norm > max_norm || norm.is_nan() {
            let scale = max_norm / norm;
            let grads = segment.grads.wrapping_add(start);
            for i in 0..len {
                unsafe { *grads.add(i) = (f64::from(*grads.add(i)) * scale) as f32 };
            }
        }
    });
}
