//! Guards state against subnormal numbers: every few steps, small state is set to zero.
//! `docs/decisions/02-subnormal-numbers.md` says how the steps and the bounds are chosen.

use crate::{
    f32x4::{F32x4, LANES},
    rule::{Range, Rule, Segment},
    scalar::{MIN_NORMAL_F32, powi},
};

/// The largest number of steps from one guard to the next.
const MAX_INTERVAL: u32 = 16;

/// The smallest fraction of itself that state may keep from one guard to the next: a half per step, over 16 steps.
const LEAST_LEFT: f64 = 1.0 / (1u32 << 16) as f64;

/// A factor of the bounds, because a schedule may make decays faster between two guards.
const MARGIN: f64 = 4.0;

/// The steps from one guard of state with this decay to the next: a power of two.
#[inline(never)] // so that the binary has it once, like the next two
fn interval(decay: f64) -> u32 {
    let (mut steps, mut left) = (1, decay);
    while steps < MAX_INTERVAL && left * left >= LEAST_LEFT {
        (steps, left) = (2 * steps, left * left);
    }
    steps
}

/// The least magnitude of state with this decay that a guard does not set to zero. Larger state is still a normal number
/// at the next guard.
#[inline(never)]
pub fn least_state(decay: f64) -> f64 {
    let steps = interval(decay);
    MARGIN * MIN_NORMAL_F32 / if steps > 1 { powi(decay, f64::from(steps)) } else { 1.0 }
}

/// Sets the elements `begin..end` of magnitudes below `least` to zero.
///
/// # Safety
/// - `begin` and `end` are multiples of [`LANES`].
/// - The elements are valid.
#[inline(never)]
unsafe fn zero_below<V: F32x4>(elements: *mut f32, begin: usize, end: usize, least: f64) {
    let least = V::splat(least);
    let mut i = begin;
    while i < end {
        unsafe { V::load(elements.add(i)).zero_below(least).store(elements.add(i)) };
        i += LANES;
    }
}

/// Returns a function that guards the elements `begin..end` of some slots, if they are to be guarded at this step. That
/// depends only on the number of the step and on the decays, so any number of threads, and a resumed run, guard at the same
/// steps.
///
/// # Safety
/// As for [`crate::rule::run`].
#[inline(always)]
pub unsafe fn guards<V: F32x4, R: Rule<N>, const N: usize>(
    rule: &R,
    segment: &Segment<N>,
    guarded: Range<usize>,
) -> Option<impl Fn(usize, usize)> {
    let (slots, decays, least_mean) = (segment.slots, rule.decays(), rule.least_mean());
    let fastest =
        guarded.clone().fold(1.0, |fastest, slot| if decays[slot] < fastest { decays[slot] } else { fastest });
    let is_due = !guarded.is_empty() && (segment.step as u64 as u32).is_multiple_of(interval(fastest));
    is_due.then_some(move |begin, end| {
        for slot in guarded.clone() {
            let least = if R::FADING.contains(&slot) { least_mean } else { least_state(decays[slot]) };
            // Without this, parameters whose gradients have stopped would be slow for ever.
            unsafe { zero_below::<V>(slots[slot], begin, end, least) };
        }
    })
}
