//! The traits of a rule, and the one loop that applies every rule to memory.
//!
//! Processors take tens of times as long for subnormal numbers (below 1.2e-38) as for others. The loop avoids them: a
//! gradient so small that a result computed from it would be subnormal counts as zero, and every few steps small state
//! is set to zero, before it can become subnormal ([`crate::guard`]).

use crate::{
    f32x4::{F32x4, LANES, for_each_vector, load_vector, store_vector},
    guard::guards,
    scalar::{Lerp, least_squared},
};
use core::array::from_fn;
pub use core::ops::Range;

/// The update rule of an optimizer with `N` slots of state. It computes scalars once per call, in double precision, and
/// returns a closure over single elements.
pub trait Rule<const N: usize> {
    /// Vectors per iteration of the loop, 1 or 2. Two are faster for many rules, and take more bytes.
    const UNROLL: usize = 1;
    /// The number of slots, counted from the first, that [`Measure::measure`] writes. The update only reads them.
    const MEASURED: usize = 0;
    /// The number of slots, counted from the last, that the rule only reads. TypeScript or a program writes them.
    const READ_ONLY: usize = 0;
    /// Slots that shrink towards zero when gradients stop, and that the update multiplies by small factors such as the
    /// learning rate: averages of gradients. They count as zero below [`Rule::least_mean`], before such a product is
    /// subnormal.
    ///
    /// A slot is not one of them if only its root is used (a mean square), or if it already contains the factors, as in
    /// `Momentum`.
    const FADING: Range<usize> = 0..0;

    /// The least magnitude of a scaled gradient that does not count as zero, so that neither its products nor its squares
    /// are subnormal. `crate::scalar` has a function for each kind of rule, `least_…`.
    fn least_gradient(&self) -> f64;

    /// The least magnitude of a [fading](Rule::FADING) slot that a guard does not set to zero.
    fn least_mean(&self) -> f64 {
        self.least_gradient()
    }

    /// The decay of each slot: a step leaves at least this share of it. 1 for a slot that only grows, or that each step
    /// overwrites.
    ///
    /// State is guarded every 16 steps, or more often if a slot decays by more than a half per step. The default, 0,
    /// guards it at every step, which is right for every rule.
    fn decays(&self) -> [f64; N] {
        [0.0; N]
    }

    /// Loads the state of a vector, given the index of its first element in the segment. A rule whose elements share
    /// state by row or by column overrides it.
    #[inline(always)]
    fn load<V: F32x4>(&self) -> impl Fn(&[*mut f32; N], usize) -> [V; N] {
        |slots, index| slots.map(|slot| unsafe { V::load(slot.add(index)) })
    }

    /// Adds noise to a scaled and clipped gradient, given the index of its first element in the segment.
    fn add_noise<V: F32x4>(&self, _step: f64) -> impl Fn(usize, V) -> V {
        |_, g| g
    }

    /// Takes a parameter, its gradient and its state, and returns the new parameter and state. `step` counts from 1.
    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]);

    /// Whether the options that [`Rule::plain_update`] leaves out are off. A rule has both functions or none.
    fn is_plain(&self) -> bool {
        false
    }

    /// Whether [`Rule::plain_update`] has weight decay (`DECAY`). A rule for which this depends on its options gets a third
    /// loop, with one vector per iteration.
    fn has_plain_decay(&self) -> bool {
        false
    }

    /// [`Rule::update`] without some options. It takes gradients before scaling, and multiplies them by `scale`, whose magnitude
    /// is between 2^-40 and 2^40. A rule with this function has a second loop, which runs when gradients are not clipped by value.
    /// The second loop is faster, and makes the binary larger.
    fn plain_update<V: F32x4, const DECAY: bool>(&self, step: f64, scale: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) {
        let (update, scale) = (self.update(step), V::splat(scale));
        move |p, g, slots| update(p, scale * g, slots)
    }
}

/// A rule that reads whole tensors before it updates: `K` sums over their elements, each of products of two numbers.
/// From the sums, TypeScript computes scalars that follow the hyper-parameters in memory when the update runs.
pub trait Measure<const N: usize, const K: usize>: Rule<N> {
    /// Takes what [`Rule::update`] takes. Of the returned state, the first [`Rule::MEASURED`] slots are written.
    fn measure<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> Measurement<V, N, K>;
}

/// New state, and the two factors of each term of the sums.
pub type Measurement<V, const N: usize, const K: usize> = ([V; N], [(V, V); K]);

/// Adjacent tensors of a group, as TypeScript writes them to memory for a kernel.
#[repr(C)]
pub struct Segment<const N: usize> {
    /// The step of these tensors, counted from 1.
    pub step: f64,
    /// The factor of the gradients: their scale, clipping by norm, and the sign of `maximize`.
    pub grad_scale: f64,
    /// The largest magnitude of a scaled gradient; infinite if gradients are not clipped by value.
    pub clip: f64,
    /// The weight of the new parameters in their averages, from 0 to 1; 0 if there are no averages.
    pub blend: f64,
    /// The bounds of the parameters.
    pub low: f64,
    pub high: f64,
    pub params: *mut f32,
    pub grads: *mut f32,
    pub averages: *mut f32,
    /// Whether to zero the gradients after the update.
    pub zero_grad: u32,
    /// The number of elements, counted from the first, that have bounds: those of the tensor without its padding, or 0.
    pub bounded: u32,
    /// Whether kernels may go through the arrays in several streams.
    pub in_streams: u32,
    pub slots: [*mut f32; N],
}

/// Elements in a cache line of 64 bytes. Spans begin and end at its multiples, and blocks of memory are padded to them.
pub const LINE: usize = 16;

/// Updates the elements `begin..end` of a segment. The result for an element does not depend on `begin` and `end`, to
/// the last bit.
///
/// # Safety
/// - `begin` and `end` are multiples of [`LINE`].
/// - All pointers in `segment` are valid for `end` elements, except `averages` if `blend` is zero.
/// - No two arrays overlap.
#[inline(always)]
pub unsafe fn run<V: F32x4, R: Rule<N>, const N: usize>(rule: &R, segment: &Segment<N>, begin: usize, end: usize) {
    let (least, step, scale) = (rule.least_gradient(), segment.step, segment.grad_scale);
    let is_plain =
        rule.is_plain() && segment.clip == f64::INFINITY && (MAX_SCALE.recip()..=MAX_SCALE).contains(&scale.abs());
    // `apply` makes the closures: made here, they would take more bytes.
    let update = || rule.update(step);
    let plain_update = || rule.plain_update::<V, false>(step, scale);
    let decaying_update = || rule.plain_update::<V, true>(step, scale);
    let is_decaying = rule.has_plain_decay();
    unsafe {
        match (is_plain, is_decaying, R::UNROLL) {
            (true, true, _) => apply(rule, segment, begin, end, || guarded::<V, 1>(least, scale), decaying_update),
            (true, false, 2) => apply(rule, segment, begin, end, || guarded::<V, 2>(least, scale), plain_update),
            (true, false, _) => apply(rule, segment, begin, end, || guarded::<V, 1>(least, scale), plain_update),
            (false, _, 2) => apply(rule, segment, begin, end, || gradients::<V, N, 2>(least, segment), update),
            (false, _, _) => apply(rule, segment, begin, end, || gradients::<V, N, 1>(least, segment), update),
        }
    }
}

/// The largest magnitude of a scale whose square can be a factor of a weight.
const MAX_SCALE: f64 = (1u64 << 40) as f64;

/// The one loop, with `L` vectors per iteration. Guards, averages and zeroed gradients follow block by block, while the
/// block is in the first-level cache: still one pass over memory, and the loop is the same with and without them.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn apply<V: F32x4, R: Rule<N>, G, U, const N: usize, const L: usize>(
    rule: &R,
    segment: &Segment<N>,
    begin: usize,
    end: usize,
    gradients: impl Fn() -> G,
    update: impl Fn() -> U,
) where
    G: Fn([V; L]) -> [V; L],
    U: Fn(V, V, [V; N]) -> (V, [V; N]),
{
    let Segment { step, params, grads, slots, .. } = *segment;
    let (add_noise, update) = (rule.add_noise::<V>(step), update());
    let (gradients, load) = (gradients(), rule.load::<V>());
    let written = R::MEASURED..N - R::READ_ONLY;
    let guard = unsafe { guards::<V, R, N>(rule, segment, written.clone()) };
    let has_extras = segment.blend > 0.0 || segment.zero_grad != 0 || segment.bounded != 0;
    let in_blocks = guard.is_some() || has_extras;
    let in_streams = written.len() <= MAX_STREAMED_SLOTS && segment.in_streams != 0;
    for_each_block(begin, end, in_blocks, in_streams, |start, stop| {
        let mut i = start;
        while i < stop {
            let at = |vector: usize| i + vector * LANES;
            let g = gradients(from_fn(|vector| unsafe { V::load(grads.add(at(vector))) }));
            for vector in 0..L {
                unsafe {
                    let (param, g) = (params.add(at(vector)), add_noise(at(vector), g[vector]));
                    let (next, state) = update(V::load(param), g, load(&slots, at(vector)));
                    next.store(param);
                    for slot in written.clone() {
                        state[slot].store(slots[slot].add(at(vector)));
                    }
                }
            }
            i += LANES * L;
        }
        if let Some(guard) = &guard {
            guard(start, stop);
        }
        if has_extras {
            unsafe { accompany::<V>(&*(&raw const *segment).cast(), start, stop) };
        }
    });
}

/// The number of elements of a block without streams, small enough for those of all arrays to stay in the first-level cache.
const BLOCK: usize = 256;

/// The number of equal parts of a range that a kernel goes through in turn.
const STREAMS: usize = 4;

/// The number of elements of a block of a stream: a few cache lines of each array.
const STREAM_BLOCK: usize = 128;

/// The largest number of slots that an update in streams writes.
const MAX_STREAMED_SLOTS: usize = 3;

/// Calls `f` with ranges that cover `begin..end`: one range, blocks, or blocks of several streams. Streams are parts of the range,
/// equal but for the last. A block of each comes in turn (`docs/decisions/16-streams.md`).
#[inline(always)]
pub fn for_each_block(begin: usize, end: usize, in_blocks: bool, in_streams: bool, mut f: impl FnMut(usize, usize)) {
    let length = end - begin;
    let block = if in_streams {
        STREAM_BLOCK
    } else if in_blocks {
        BLOCK
    } else {
        length
    };
    let stream = if in_streams { length.div_ceil(STREAMS * STREAM_BLOCK) * STREAM_BLOCK } else { length };
    let (mut start, mut first) = (begin, begin);
    while first < begin + stream {
        f(start, end.min(start + block));
        start += stream;
        if start >= end {
            first += block;
            start = first;
        }
    }
}

/// Does the rest of the update of the elements `begin..end`, as far as the segment has it: limits the new parameters to
/// their bounds, adds them to their averages, and zeroes the gradients.
///
/// # Safety
/// As for [`run`].
#[inline(never)] // once in the binary
unsafe fn accompany<V: F32x4>(segment: &Segment<0>, begin: usize, end: usize) {
    let Segment { grads, zero_grad, .. } = *segment;
    unsafe {
        bound::<V>(segment, begin, end);
        average::<V>(segment, begin, end);
    }
    if zero_grad != 0 {
        let mut i = begin;
        while i < end {
            unsafe { V::splat(0.0).store(grads.add(i)) };
            i += LANES;
        }
    }
}

/// Limits the parameters `begin..end` to their bounds: the nearest point inside. A NaN stays. Padding stays zero.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn bound<V: F32x4>(segment: &Segment<0>, begin: usize, end: usize) {
    let Segment { low, high, params, bounded, .. } = *segment;
    let [low, high] = [low, high].map(V::splat);
    let end = end.min(bounded as usize);
    for_each_vector(end.saturating_sub(begin), |i, single| unsafe {
        let at = params.add(begin + i);
        store_vector(load_vector::<V>(at, single).max(low).min(high), at, single);
    });
}

/// Adds the parameters `begin..end` to their averages, if `blend` is not zero.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
pub unsafe fn average<V: F32x4>(segment: &Segment<0>, begin: usize, end: usize) {
    let Segment { blend, params, averages, .. } = *segment;
    let weight = Lerp::new(blend);
    if blend > 0.0 {
        for line in (begin..end).step_by(LINE) {
            // The compiler unrolls this loop.
            for vector in 0..LINE / LANES {
                let i = line + vector * LANES;
                unsafe {
                    let (param, average) = (V::load(params.add(i)), V::load(averages.add(i)));
                    weight.between(average, param).store(averages.add(i));
                }
            }
        }
    }
}

/// Turns gradients in memory into zero where they would be below `least` after scaling.
#[inline(always)]
fn guarded<V: F32x4, const L: usize>(least: f64, scale: f64) -> impl Fn([V; L]) -> [V; L] + use<V, L> {
    let least = V::splat(least / scale.abs());
    move |g| g.map(|g| g.zero_below(least))
}

/// Turns gradients in memory into scaled and clipped ones: zero if they would be below `least`.
#[inline(always)]
fn gradients<V: F32x4, const N: usize, const L: usize>(
    least: f64,
    segment: &Segment<N>,
) -> impl Fn([V; L]) -> [V; L] + use<V, N, L> {
    let [scale, clip] = [segment.grad_scale, segment.clip];
    let guarded = guarded::<V, L>(least, scale);
    let changes = scale != 1.0 || clip < f64::INFINITY;
    let [scale, clip] = [scale, clip].map(|x| x as f32);
    move |g| {
        let g = guarded(g);
        if changes {
            let [scale, low, high] = [scale, -clip, clip].map(|x| V::splat(f64::from(x)));
            g.map(|g| (g * scale).max(low).min(high))
        } else {
            g
        }
    }
}

/// Turns a gradient in memory into a scaled and clipped one, for kernels that run before the update of a rule whose
/// least gradient is [`least_squared`].
#[inline(always)]
pub fn clipped_gradient<V: F32x4>(segment: &Segment<0>) -> impl Fn(V) -> V + use<V> {
    let gradients = gradients::<V, 0, 1>(least_squared(), segment);
    move |g| gradients([g])[0]
}

/// Measures the elements `begin..end` of a segment, and writes the sums to `sums`. The order of the additions depends
/// only on `begin` and `end`.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
pub unsafe fn measure<V: F32x4, R: Measure<N, K>, const N: usize, const K: usize>(
    rule: &R,
    segment: &Segment<N>,
    begin: usize,
    end: usize,
    sums: &mut [f64; K],
) {
    let Segment { step, params, grads, slots, .. } = *segment;
    let (measure, load) = (rule.measure::<V>(step), rule.load::<V>());
    let gradients = gradients::<V, N, 1>(rule.least_gradient(), segment);
    let guard = unsafe { guards::<V, R, N>(rule, segment, 0..R::MEASURED) };
    let mut totals = [V::NO_SUMS; K];
    for_each_block(begin, end, guard.is_some(), false, |start, stop| {
        let mut i = start;
        while i < stop {
            unsafe {
                let [g] = gradients([V::load(grads.add(i))]);
                let (state, factors) = measure(V::load(params.add(i)), g, load(&slots, i));
                for slot in 0..R::MEASURED {
                    state[slot].store(slots[slot].add(i));
                }
                for (total, (a, b)) in totals.iter_mut().zip(factors) {
                    *total = a.add_products(b, *total);
                }
            }
            i += LANES;
        }
        if let Some(guard) = &guard {
            guard(start, stop);
        }
    });
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
