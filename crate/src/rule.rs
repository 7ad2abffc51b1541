//! What a rule is, and the one loop that applies it.
//!
//! Processors take tens of times as long over subnormal numbers as over others. The loop keeps them out: a gradient so
//! small that what follows from it would be subnormal counts as zero, and subnormal state is stored as zero.

use crate::lane::{Lane, WIDTH, sqrt};

/// An optimizer's update of one element with `N` slots of state: scalars, computed once a call in double precision,
/// around a function of single elements.
pub trait Rule<const N: usize> {
    /// Lanes per turn of the loop. Two pay where a rule has few operations; where it divides, one does as well.
    const UNROLL: usize = 1;

    /// Scaled gradients nearer to zero than this count as zero: the root of [`SMALLEST`] over what multiplies their
    /// squares, or `SMALLEST` over what multiplies them.
    fn tiny(&self) -> f64;

    /// `step` counts from 1. The function takes a parameter, its gradient and its state, and returns the new
    /// parameter and state.
    fn update<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]);
}

/// The smallest normal number.
pub const SMALLEST: f64 = f32::MIN_POSITIVE as f64;

/// What [`Rule::tiny`] is where gradients are only multiplied: by the rate, and by shares near one. State still moves
/// at a rate of zero.
pub fn smallest_to_scale(lr: f64) -> f64 {
    SMALLEST / lr.clamp(1.0 / (1u64 << 60) as f64, 1.0 / 16.0)
}

/// `eps` as a denominator may have it: at least the root of the smallest mean square that is kept, or zero state would
/// be divided by zero.
pub fn epsilon<V: Lane>(eps: f64) -> V {
    let least = sqrt(SMALLEST);
    V::splat(if eps > least { eps } else { least })
}

/// What a call works on, as TypeScript lays it out in memory.
#[repr(C)]
pub struct Job<const N: usize> {
    pub step: f64,
    pub grad_scale: f64,
    pub params: *mut f32,
    pub grads: *mut f32,
    pub slots: [*mut f32; N],
}

/// Updates the elements `begin..end` of a job. An element's bits do not depend on where a span begins or ends.
///
/// # Safety
/// Every pointer of the job is valid for `end` elements, and no two blocks overlap.
#[inline(always)]
pub unsafe fn run<V: Lane, R: Rule<N>, const N: usize>(rule: &R, job: &Job<N>, begin: usize, end: usize) {
    let Job { step, grad_scale, params, grads, slots } = *job;
    let update = rule.update::<V>(step);
    let scale = V::splat(grad_scale);
    let tiny = rule.tiny();
    // `tiny` is never below it, but that keeps the compiler from spelling a constant out at each use.
    let smallest = V::splat(if tiny < SMALLEST { tiny } else { SMALLEST });
    let tiny = V::splat(tiny / grad_scale.abs());
    // All that rides along with an update stands here: one pass over memory, whatever is asked for.
    let advance = |i: usize, load: unsafe fn(*const f32) -> V, store: unsafe fn(V, *mut f32)| unsafe {
        let param = params.add(i);
        let grad = grads.add(i);
        let slots = slots.map(|slot| slot.add(i));
        let (next, state) = update(load(param), load(grad).zero_below(tiny) * scale, slots.map(|slot| load(slot)));
        store(next, param);
        for (slot, value) in slots.into_iter().zip(state) {
            // Without this, a parameter whose gradient died would be slow for good.
            store(value.zero_below(smallest), slot);
        }
    };

    let mut i = begin;
    while end - i >= WIDTH * R::UNROLL {
        for lane in 0..R::UNROLL {
            advance(i + lane * WIDTH, V::load, V::store);
        }
        i += WIDTH * R::UNROLL;
    }
    while i < end {
        advance(i, V::load_one, V::store_one);
        i += 1;
    }
}

/// An exponential moving average: of what it was, `beta`; of what comes, the rest.
#[derive(Clone, Copy)]
pub struct Average<V> {
    keep: V,
    take: V,
}

impl<V: Lane> Average<V> {
    pub fn new(beta: f64) -> Self {
        Self { keep: V::splat(beta), take: V::splat(1.0 - beta) }
    }

    #[inline(always)]
    pub fn of(self, average: V, x: V) -> V {
        self.keep * average + self.take * x
    }
}

/// `base` to the power `exponent`, a whole number: by squaring, so the same bits everywhere.
#[inline(never)] // once in the binary, not twice in every kernel that corrects a bias
pub fn power(base: f64, exponent: f64) -> f64 {
    let (mut base, mut exponent, mut result) = (base, exponent as u32, 1.0);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// Declares a rule's hyper-parameters: the struct as TypeScript writes it, one double after another, and its fields'
/// names for the test that compares them.
macro_rules! hyper {
    ($(#[$doc:meta])* pub struct $name:ident$(<const $flag:ident: bool>)? { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        pub struct $name$(<const $flag: bool>)? { $(pub(crate) $field: $type),* }

        impl$(<const $flag: bool>)? $name$(<$flag>)? {
            pub const FIELDS: &str = concat!($(stringify!($field), ":", stringify!($type), " "),*);
        }
    };
}
pub(crate) use hyper;
