//! Gradient clipping: by value, and by the norms of units of a tensor.

use crate::{
    lane::{Lane, sqrt},
    rule::Segment,
    vector::sum_of_squares,
};

/// Limits each element of a gradient to `[-clip, clip]`.
#[inline(always)]
pub fn clip_value<V: Lane>(g: V, clip: f64) -> V {
    g.max(V::splat(-clip)).min(V::splat(clip))
}

/// The arguments of [`clip_units`].
#[repr(C)]
pub struct Units {
    /// The largest norm of a unit's gradient, as a multiple of the norm of its parameters.
    pub clip_factor: f64,
    /// Elements of a unit (a row of a matrix, or a filter).
    pub unit_len: f64,
    /// Elements of all units.
    pub len: f64,
}

/// Adaptive gradient clipping: Brock, De, Smith & Simonyan, 2021. Scales the gradient of each unit that begins in
/// `begin..end`, in place, if its norm is too large for the norm of the unit's parameters.
///
/// # Safety
/// The parameters and gradients in `segment` are valid for `units.len` elements.
#[inline(always)]
pub unsafe fn clip_units<V: Lane>(units: &Units, segment: &Segment<0>, begin: usize, end: usize) {
    /// The least norm that a unit's parameters count with. Without it, parameters of zero would stay zero.
    const LEAST_NORM: f64 = 1e-3;
    let (unit_len, len) = ((units.unit_len as usize).max(1), units.len as usize);
    let end = if end < len { end } else { len };
    let mut start = begin.div_ceil(unit_len) * unit_len;
    while start < end {
        let [params, grads] = [segment.params, segment.grads].map(|block| unsafe { block.add(start) });
        let [param_norm, grad_norm] =
            [params, grads].map(|block| sqrt(unsafe { sum_of_squares::<V>(block, unit_len) }));
        let max_norm = units.clip_factor * if param_norm > LEAST_NORM { param_norm } else { LEAST_NORM };
        let norm = grad_norm * segment.grad_scale.abs();
        if norm > max_norm {
            let scale = max_norm / norm;
            for i in 0..unit_len {
                unsafe { *grads.add(i) = (f64::from(*grads.add(i)) * scale) as f32 };
            }
        }
        start += unit_len;
    }
}
