//! The traits of a rule, and the one loop that applies every rule to memory.
//!
//! Processors take tens of times as long over subnormal numbers as over others. The loop avoids them: a gradient so
//! small that a result computed from it would be subnormal counts as zero, and subnormal state is stored as zero.

use crate::{
    clip::clip_value,
    lane::{Lane, WIDTH},
    scalar::{MIN_NORMAL_F32, least_squared},
};
use core::array::from_fn;
pub use core::ops::Range;

/// The update rule of an optimizer with `N` slots of state. It computes scalars once per call, in double precision, and
/// returns a closure over single elements.
pub trait Rule<const N: usize> {
    /// Lanes per iteration of the loop. Two are faster for a rule of few operations. A rule that divides is as fast
    /// with one.
    const UNROLL: usize = 1;
    /// How many slots, counted from the first, [`Measure::measure`] writes. The update reads them and does not write
    /// them.
    const MEASURED: usize = 0;
    /// How many slots, counted from the last, the rule only reads. TypeScript or a program writes them.
    const READ_ONLY: usize = 0;
    /// Slots that shrink towards zero when gradients stop, and that the update multiplies by small factors such as the
    /// learning rate: averages of gradients. They count as zero below [`Rule::least_mean`], before such a product is
    /// subnormal.
    ///
    /// A slot is not one of them if only its root is used (a mean square), or if it already contains the factors, as in
    /// `Momentum`.
    const FADING: Range<usize> = 0..0;

    /// The least magnitude of a scaled gradient that does not count as zero. For a rule that squares gradients it is
    /// the root of [`MIN_NORMAL_F32`] over the factor of the squares; for others, `MIN_NORMAL_F32` over the factor of
    /// the gradients. `crate::scalar` has a function for each kind, `least_…`.
    fn least_gradient(&self) -> f64;

    /// The least magnitude of a [fading](Rule::FADING) slot that is not stored as zero.
    fn least_mean(&self) -> f64 {
        self.least_gradient()
    }

    /// Loads the state of a lane, given the index of its first element in the segment. A rule whose elements share
    /// state, by row or by column, has its own.
    #[inline(always)]
    fn load<V: Lane>(&self) -> impl Fn([*mut f32; N], usize) -> [V; N] {
        |slots, index| slots.map(|slot| unsafe { V::load(slot.add(index)) })
    }

    /// Adds noise to a scaled gradient, before it is clipped, given the index of its first element in the segment.
    fn add_noise<V: Lane>(&self, _step: f64) -> impl Fn(usize, V) -> V {
        |_, g| g
    }

    /// Takes a parameter, its gradient and its state, and returns the new parameter and state. `step` counts from 1.
    fn update<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]);
}

/// A rule that reads whole tensors before it updates: `K` sums over their elements, each of products of two numbers.
/// From the sums, TypeScript computes scalars that follow the hyper-parameters in memory when the update runs.
pub trait Measure<const N: usize, const K: usize>: Rule<N> {
    /// Takes what [`Rule::update`] takes. Of the returned state, the first [`Rule::MEASURED`] slots are written.
    fn measure<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> Measurement<V, N, K>;
}

/// New state, and the two factors of each term of the sums.
pub type Measurement<V, const N: usize, const K: usize> = ([V; N], [(V, V); K]);

/// Adjacent tensors of a group, as TypeScript writes them to memory for a kernel.
#[repr(C)]
pub struct Segment<const N: usize> {
    pub step: f64,
    pub grad_scale: f64,
    /// The largest magnitude of a scaled gradient; infinite if gradients are not clipped by value.
    pub clip: f64,
    /// The weight of the new parameters in their averages, from 0 to 1; 0 if there are no averages.
    pub blend: f64,
    pub params: *mut f32,
    pub grads: *mut f32,
    pub averages: *mut f32,
    /// Whether to zero the gradients after the update.
    pub zero_grad: u32,
    pub slots: [*mut f32; N],
}

/// Elements in a cache line of 64 bytes. Spans begin and end at its multiples, and blocks of memory are padded to them.
pub const LINE: usize = 16;

/// Updates the elements `begin..end` of a segment. The bits of an element do not depend on `begin` and `end`.
///
/// # Safety
/// - `begin` and `end` are multiples of [`LINE`].
/// - All pointers in `segment` are valid for `end` elements, except `averages` if `blend` is zero.
/// - No two blocks overlap.
#[inline(always)]
pub unsafe fn run<V: Lane, R: Rule<N>, const N: usize>(rule: &R, segment: &Segment<N>, begin: usize, end: usize) {
    if R::UNROLL == 2 {
        unsafe { run_unrolled::<V, R, N, 2>(rule, segment, begin, end) }
    } else {
        unsafe { run_unrolled::<V, R, N, 1>(rule, segment, begin, end) }
    }
}

/// The one loop, with `L` lanes per iteration. Clipping, averaging and zeroing of gradients happen in the same pass
/// over memory. Without them, an iteration only tests `clip` and `has_extras`.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn run_unrolled<V: Lane, R: Rule<N>, const N: usize, const L: usize>(
    rule: &R,
    segment: &Segment<N>,
    begin: usize,
    end: usize,
) {
    let Segment { step, clip, blend, params, grads, averages, zero_grad, slots, .. } = *segment;
    let has_extras = clip < f64::INFINITY || blend > 0.0 || zero_grad != 0;
    let (add_noise, update) = (rule.add_noise::<V>(step), rule.update::<V>(step));
    let scaled = scaled_gradient::<V, N>(rule.least_gradient(), segment);
    let least = least_state::<V, R, N>(rule);
    let load = rule.load::<V>();

    let mut i = begin;
    while i < end {
        let at = |lane: usize| i + lane * WIDTH;
        let mut g: [V; L] = from_fn(|lane| add_noise(at(lane), scaled(unsafe { V::load(grads.add(at(lane))) })));
        if clip < f64::INFINITY {
            g = g.map(|g| clip_value(g, clip));
        }
        let next: [V; L] = from_fn(|lane| unsafe {
            let param = params.add(at(lane));
            let (next, state) = update(V::load(param), g[lane], load(slots, at(lane)));
            next.store(param);
            for i in R::MEASURED..N - R::READ_ONLY {
                // Without this, parameters whose gradients have stopped would be slow for ever.
                state[i].zero_below(least(i)).store(slots[i].add(at(lane)));
            }
            next
        });
        if has_extras {
            for (lane, next) in next.into_iter().enumerate() {
                unsafe {
                    if blend > 0.0 {
                        let at = averages.add(at(lane));
                        let average = V::load(at);
                        (average + V::splat(blend) * (next - average)).store(at);
                    }
                    if zero_grad != 0 {
                        V::splat(0.0).store(grads.add(at(lane)));
                    }
                }
            }
        }
        i += WIDTH * L;
    }
}

/// Turns a gradient in memory into a scaled one: zero if it would be below `least`.
#[inline(always)]
fn scaled_gradient<V: Lane, const N: usize>(least: f64, segment: &Segment<N>) -> impl Fn(V) -> V + use<V, N> {
    let scale = V::splat(segment.grad_scale);
    let least = V::splat(least / segment.grad_scale.abs());
    move |g: V| g.zero_below(least) * scale
}

/// The least magnitude of a slot's state that is not stored as zero.
#[inline(always)]
fn least_state<V: Lane, R: Rule<N>, const N: usize>(rule: &R) -> impl Fn(usize) -> V + use<V, R, N> {
    let mean = rule.least_mean();
    // The mean's is never smaller. The comparison keeps the compiler from repeating a constant at each use.
    let normal = if mean < MIN_NORMAL_F32 { mean } else { MIN_NORMAL_F32 };
    let [normal, mean] = [normal, mean].map(V::splat);
    move |slot| if R::FADING.contains(&slot) { mean } else { normal }
}

/// Turns a gradient in memory into a scaled and clipped one, for kernels that run before the update of a rule whose
/// least gradient is [`least_squared`].
#[inline(always)]
pub fn clipped_gradient<V: Lane>(segment: &Segment<0>) -> impl Fn(V) -> V + use<V> {
    let scaled = scaled_gradient::<V, 0>(least_squared(), segment);
    let clip = segment.clip;
    move |g| clip_value(scaled(g), clip) // without a branch: clipping to infinity is cheaper
}

/// Measures the elements `begin..end` of a segment, and writes the sums to `sums`. The order of the additions depends
/// only on `begin` and `end`.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
pub unsafe fn measure<V: Lane, R: Measure<N, K>, const N: usize, const K: usize>(
    rule: &R,
    segment: &Segment<N>,
    begin: usize,
    end: usize,
    sums: &mut [f64; K],
) {
    let Segment { step, clip, params, grads, slots, .. } = *segment;
    let (measure, load) = (rule.measure::<V>(step), rule.load::<V>());
    let scaled = scaled_gradient::<V, N>(rule.least_gradient(), segment);
    let least = least_state::<V, R, N>(rule);
    let mut totals = [V::NO_SUMS; K];
    let mut i = begin;
    while i < end {
        unsafe {
            let g = scaled(V::load(grads.add(i)));
            let g = if clip < f64::INFINITY { clip_value(g, clip) } else { g };
            let (state, factors) = measure(V::load(params.add(i)), g, load(slots, i));
            for k in 0..R::MEASURED {
                state[k].zero_below(least(k)).store(slots[k].add(i));
            }
            for (total, (a, b)) in totals.iter_mut().zip(factors) {
                *total = a.add_products(b, *total);
            }
        }
        i += WIDTH;
    }
    *sums = totals.map(V::total);
}

/// Declares the struct of a rule's hyper-parameters, in the layout that TypeScript writes: one double after another.
/// Its `FIELDS` are names and types, which a test compares with the literal in TypeScript.
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
