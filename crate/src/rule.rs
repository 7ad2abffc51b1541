//! What a rule is, and the one loop that applies it.
//!
//! Processors take tens of times as long over subnormal numbers as over others. The loop keeps them out: gradients so
//! small that they would lead to them count as zero, and so does state that has become one.

use crate::lane::{Lane, WIDTH};

/// An optimizer's update of one element with `N` slots of state: scalars, computed once a call in double precision,
/// around a function of single elements.
pub trait Rule<const N: usize> {
    /// Lanes per turn of the loop. Two pay where a rule has few operations; where it divides, one does as well.
    const UNROLL: usize = 1;

    /// Scaled gradients nearer to zero than this count as zero, because products with them would be subnormal.
    /// [`TINY_SQUARED`] for rules that square gradients.
    const TINY: f64 = TINY;

    /// `step` counts from 1. The function takes a parameter, its gradient and its state, and returns the new
    /// parameter and state.
    fn update<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]);
}

/// Times a learning rate as small as 2^-24, still a normal number.
pub const TINY: f64 = 1.0 / (1u128 << 102) as f64;
/// Its square's share in an average that keeps 1 - 2^-10 of itself is still a normal number.
pub const TINY_SQUARED: f64 = 1.0 / (1u64 << 58) as f64;

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
    let tiny = V::splat(R::TINY / grad_scale.abs());
    let smallest = V::splat(f32::MIN_POSITIVE as f64); // steps count from 1, which the compiler can't know
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
        pub struct $name$(<const $flag: bool>)? { $($field: $type),* }

        impl$(<const $flag: bool>)? $name$(<$flag>)? {
            pub const FIELDS: &str = concat!($(stringify!($field), ":", stringify!($type), " "),*);
        }
    };
}
pub(crate) use hyper;
