//! What a rule is, and the one loop that applies it.
//!
//! Processors take tens of times as long over subnormal numbers as over others. The loop keeps them out: a gradient so
//! small that what follows from it would be subnormal counts as zero, and subnormal state is stored as zero.

use crate::lane::{Lane, WIDTH, sqrt};
use core::array::from_fn;
pub use core::ops::Range;

/// An optimizer's update of one element with `N` slots of state: scalars, computed once a call in double precision,
/// around a function of single elements.
pub trait Rule<const N: usize> {
    /// Lanes per turn of the loop. Two pay where a rule has few operations; where it divides, one does as well.
    const UNROLL: usize = 1;
    /// How many slots, the first, are not written by the update: [`Measure`] has done so.
    const MEASURED: usize = 0;
    /// How many slots, the last, are never written: what TypeScript put there stays.
    const READ_ONLY: usize = 0;
    /// Which slots are means of gradients, or of what they come to: they fade where gradients end, and count as zero from
    /// [`Rule::least_mean`] on, before what follows from them is subnormal.
    const FADING: Range<usize> = 0..0;

    /// Scaled gradients nearer to zero than this count as zero: the root of [`MIN_NORMAL_F32`] over what multiplies their
    /// squares, or `MIN_NORMAL_F32` over what multiplies them.
    fn least_gradient(&self) -> f64;

    /// Means nearer to zero than this count as zero.
    fn least_mean(&self) -> f64 {
        self.least_gradient()
    }

    /// Loads the state of a lane of elements, by the first one's index in the segment. Rules whose elements share numbers, by
    /// row or column, load them otherwise.
    #[inline(always)]
    fn load<V: Lane>(&self) -> impl Fn([*mut f32; N], usize) -> [V; N] {
        |slots, index| slots.map(|slot| unsafe { V::load(slot.add(index)) })
    }

    /// What a gradient becomes before all else, by its first element's index in the segment.
    fn add_noise<V: Lane>(&self, _step: f64) -> impl Fn(usize, V) -> V {
        |_, g| g
    }

    /// `step` counts from 1. The function takes a parameter, its gradient and its state, and returns the new
    /// parameter and state.
    fn update<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]);
}

/// A rule that must see whole tensors before it updates: `K` sums over their elements, each of products of two numbers.
/// TypeScript makes of the sums what stands behind the hyper-parameters when the update comes.
pub trait Measure<const N: usize, const K: usize>: Rule<N> {
    /// Takes what [`Rule::update`] takes. Of the state, the slots that are [`Rule::MEASURED`] are written.
    fn measure<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> Measurement<V, N, K>;
}

/// New state, and the factors of what is added up.
pub type Measurement<V, const N: usize, const K: usize> = ([V; N], [(V, V); K]);

/// The smallest normal number.
pub const MIN_NORMAL_F32: f64 = f32::MIN_POSITIVE as f64;

/// What [`Rule::least_gradient`] is where gradients are only multiplied: by the rate, and by shares near one. State still moves
/// at a rate of zero.
pub fn least_scaled(lr: f64) -> f64 {
    MIN_NORMAL_F32 / lr.abs().clamp(1.0 / (1u64 << 60) as f64, 1.0 / 16.0)
}

/// What [`Rule::least_gradient`] is where gradients are squared, and the squares added up or averaged over many.
pub fn least_squared() -> f64 {
    sqrt(MIN_NORMAL_F32)
}

/// What [`Rule::least_gradient`] is where the squares are averaged by a decay rate.
pub fn least_averaged(beta: f64) -> f64 {
    sqrt(MIN_NORMAL_F32 / (1.0 - beta))
}

/// `eps` as a denominator may have it: at least the root of the smallest mean square that is kept, or zero state would
/// be divided by zero.
pub fn eps_lane<V: Lane>(eps: f64) -> V {
    V::splat(eps_scalar(eps))
}

/// The same as a scalar.
pub fn eps_scalar(eps: f64) -> f64 {
    let least = least_squared();
    if eps < least { least } else { eps }
}

/// `eps` under the root of a denominator, or added to it.
pub fn eps_pair<V: Lane>(eps: f64, in_sqrt: f64) -> (V, V) {
    let (inside, outside) = if in_sqrt != 0.0 { (eps, 0.0) } else { (0.0, eps) };
    (V::splat(inside), eps_lane(outside))
}

/// What a call works on, as TypeScript lays it out in memory.
#[repr(C)]
pub struct Segment<const N: usize> {
    pub step: f64,
    pub grad_scale: f64,
    /// Scaled gradients are kept within this distance of zero; infinite for any.
    pub clip: f64,
    /// How much of what they have become the parameters' averages take in; 0 where there are none.
    pub blend: f64,
    pub params: *mut f32,
    pub grads: *mut f32,
    pub averages: *mut f32,
    /// Whether to zero the gradients behind the update.
    pub zero_grad: u32,
    pub slots: [*mut f32; N],
}

/// Where spans begin and end: at multiples of so many elements, as blocks of memory are padded.
pub const LINE: usize = 16;

/// Updates the elements `begin..end` of a segment. An element's bits do not depend on where a span begins or ends.
///
/// # Safety
/// `begin` and `end` are multiples of [`LINE`]. Every pointer of the segment is valid for `end` elements, and no two blocks
/// overlap.
#[inline(always)]
pub unsafe fn run<V: Lane, R: Rule<N>, const N: usize>(rule: &R, segment: &Segment<N>, begin: usize, end: usize) {
    if R::UNROLL == 2 {
        unsafe { run_unrolled::<V, R, N, 2>(rule, segment, begin, end) }
    } else {
        unsafe { run_unrolled::<V, R, N, 1>(rule, segment, begin, end) }
    }
}

/// The one loop, `L` lanes a turn. All that rides along with an update stands here: one pass over memory, whatever is
/// asked for, and one question a turn where nothing is.
#[inline(always)]
unsafe fn run_unrolled<V: Lane, R: Rule<N>, const N: usize, const L: usize>(
    rule: &R,
    segment: &Segment<N>,
    begin: usize,
    end: usize,
) {
    let Segment { step, clip, blend, params, grads, averages, zero_grad, slots, .. } = *segment;
    let extras = clip < f64::INFINITY || blend > 0.0 || zero_grad != 0;
    let (add_noise, update) = (rule.add_noise::<V>(step), rule.update::<V>(step));
    let gradient = gradients::<V, N>(rule.least_gradient(), segment);
    let least = least::<V, R, N>(rule);
    let load = rule.load::<V>();

    let mut i = begin;
    while i < end {
        let at = |lane: usize| i + lane * WIDTH;
        let mut g: [V; L] = from_fn(|lane| add_noise(at(lane), gradient(unsafe { V::load(grads.add(at(lane))) })));
        if clip < f64::INFINITY {
            g = g.map(|g| clipped(g, clip));
        }
        let next: [V; L] = from_fn(|lane| unsafe {
            let param = params.add(at(lane));
            let (next, state) = update(V::load(param), g[lane], load(slots, at(lane)));
            next.store(param);
            for i in R::MEASURED..N - R::READ_ONLY {
                // Without this, a parameter whose gradient died would be slow for good.
                state[i].zero_below(least(i)).store(slots[i].add(at(lane)));
            }
            next
        });
        if extras {
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

/// What makes of a gradient in memory the one that a rule sees.
#[inline(always)]
fn gradients<V: Lane, const N: usize>(least: f64, segment: &Segment<N>) -> impl Fn(V) -> V + use<V, N> {
    let scale = V::splat(segment.grad_scale);
    let least = V::splat(least / segment.grad_scale.abs());
    move |g: V| g.zero_below(least) * scale
}

/// The least that a slot's state may be, and not be zero.
#[inline(always)]
fn least<V: Lane, R: Rule<N>, const N: usize>(rule: &R) -> impl Fn(usize) -> V + use<V, R, N> {
    let mean = rule.least_mean();
    // The mean's is never below it, but that keeps the compiler from spelling a constant out at each use.
    let smallest = if mean < MIN_NORMAL_F32 { mean } else { MIN_NORMAL_F32 };
    let [smallest, mean] = [smallest, mean].map(V::splat);
    move |slot| if R::FADING.contains(&slot) { mean } else { smallest }
}

/// Makes of a gradient in memory the scaled and clipped one, for kernels of [`least_squared`] rules that run before the update.
#[inline(always)]
pub fn gradient_of<V: Lane>(segment: &Segment<0>) -> impl Fn(V) -> V + use<V> {
    let gradient = gradients::<V, 0>(least_squared(), segment);
    let clip = segment.clip;
    move |g| clipped(gradient(g), clip) // to be asked whether to would take more than to do it
}

#[inline(always)]
fn clipped<V: Lane>(g: V, clip: f64) -> V {
    g.max(V::splat(-clip)).min(V::splat(clip))
}

/// Measures the elements `begin..end` of a segment: leaves the sums, in an order that depends on nothing but the span.
///
/// # Safety
/// As for [`run`]; `sums` is valid.
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
    let gradient = gradients::<V, N>(rule.least_gradient(), segment);
    let least = least::<V, R, N>(rule);
    let mut totals = [V::NO_SUMS; K];
    let mut i = begin;
    while i < end {
        unsafe {
            let g = gradient(V::load(grads.add(i)));
            let g = if clip < f64::INFINITY { clipped(g, clip) } else { g };
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

/// Leaves the sum of the squares of the gradients `begin..end` of a segment, in an order that depends on nothing but the span.
///
/// # Safety
/// As for [`run`]; `sum` is valid.
#[inline(always)]
pub unsafe fn add_squares<V: Lane>(segment: &Segment<0>, begin: usize, end: usize, sum: &mut f64) {
    *sum = sum_streams::<V>(begin, end, |i, sums| unsafe {
        let at = segment.grads.add(i);
        V::add_products_at(at, at, sums)
    });
}

/// Leaves the sum of the products of the parameters and the gradients `begin..end` of a segment, in the same order.
///
/// # Safety
/// As for [`add_squares`].
#[inline(always)]
pub unsafe fn dot<V: Lane>(segment: &Segment<0>, begin: usize, end: usize, sum: &mut f64) {
    *sum = sum_streams::<V>(begin, end, |i, sums| unsafe {
        V::add_products_at(segment.params.add(i), segment.grads.add(i), sums)
    });
}

/// What `add` makes of a span, lane by lane, from several places at once.
#[inline(always)]
fn sum_streams<V: Lane>(begin: usize, end: usize, add: impl Fn(usize, V::Sums) -> V::Sums) -> f64 {
    const STREAMS: usize = 4;
    let mut sums = [V::NO_SUMS; STREAMS];
    let part = (end - begin) / (STREAMS * WIDTH) * WIDTH;
    let mut i = 0;
    while i < part {
        for (stream, sums) in sums.iter_mut().enumerate() {
            *sums = add(begin + stream * part + i, *sums);
        }
        i += WIDTH;
    }
    sums.into_iter().map(V::total).sum()
}

/// Leaves the sum of the gradients' magnitudes `begin..end`, in an order that depends on nothing but the span, and the
/// largest; a NaN shows in the sum.
///
/// # Safety
/// As for [`run`]; `out` is valid.
#[inline(always)]
pub unsafe fn magnitude<V: Lane>(segment: &Segment<0>, begin: usize, end: usize, out: &mut [f64; 2]) {
    let (zero, one) = (V::splat(0.0), V::splat(1.0));
    let (mut sums, mut largest) = (V::NO_SUMS, zero);
    let mut i = begin;
    while i < end {
        let g = unsafe { V::load(segment.grads.add(i)) };
        let g = g.max(zero - g);
        sums = g.add_products(one, sums);
        largest = largest.max(g);
        i += WIDTH;
    }
    *out = [V::total(sums), f64::from(largest.largest())];
}

/// Leaves `a` times the parameters `begin..end` of a segment, plus `b` times the gradients unless `b` is zero, in its slot,
/// which may be one of them. One times the parameters alone is an exact copy.
///
/// # Safety
/// As for [`run`], but that blocks may be the same.
#[inline(always)]
pub unsafe fn combine<V: Lane>([a, b]: [f64; 2], segment: &Segment<1>, begin: usize, end: usize) {
    let smallest = V::splat(if a == 1.0 && b == 0.0 { 0.0 } else { MIN_NORMAL_F32 });
    let two = b != 0.0;
    let [a, b] = [a, b].map(V::splat);
    let mut i = begin;
    while i < end {
        unsafe {
            let mut x = a * V::load(segment.params.add(i));
            if two {
                x = x + b * V::load(segment.grads.add(i));
            }
            x.zero_below(smallest).store(segment.slots[0].add(i));
        }
        i += WIDTH;
    }
}

/// What [`clip_units`] must know: the largest share of a unit's norm that its gradient's may have, and how many
/// elements a unit has, and all units together.
#[repr(C)]
pub struct Units {
    pub clip_factor: f64,
    pub unit: f64,
    pub size: f64,
}

/// Adaptive gradient clipping: Brock, De, Smith & Simonyan, 2021. Scales the gradients of those units of a segment that
/// begin in `begin..end`, in place, where their norm is too large for the parameters'.
///
/// # Safety
/// The segment's parameters and gradients are valid for all units' elements.
#[inline(always)]
pub unsafe fn clip_units<V: Lane>(units: &Units, segment: &Segment<0>, begin: usize, end: usize) {
    /// What the norm of a unit of parameters counts as at least, or one that is zero would stay so.
    const LEAST: f64 = 1e-3;
    let (unit, size) = ((units.unit as usize).max(1), units.size as usize);
    let end = if end < size { end } else { size };
    let mut start = begin.div_ceil(unit) * unit;
    while start < end {
        let [params, grads] = [segment.params, segment.grads].map(|of| unsafe { of.add(start) });
        let [param_norm, grad_norm] = [params, grads].map(|of| sqrt(unsafe { sum_of_squares::<V>(of, unit) }));
        let most = units.clip_factor * if param_norm > LEAST { param_norm } else { LEAST };
        let norm = grad_norm * segment.grad_scale.abs();
        if norm > most {
            let scale = most / norm;
            for i in 0..unit {
                unsafe { *grads.add(i) = (f64::from(*grads.add(i)) * scale) as f32 };
            }
        }
        start += unit;
    }
}

/// The sum of the squares of `length` elements, in an order of its own.
#[inline(always)]
unsafe fn sum_of_squares<V: Lane>(of: *const f32, length: usize) -> f64 {
    let mut sums = V::NO_SUMS;
    let whole = length / WIDTH * WIDTH;
    let mut i = 0;
    while i < whole {
        sums = unsafe { V::add_products_at(of.add(i), of.add(i), sums) };
        i += WIDTH;
    }
    let mut total = V::total(sums);
    for i in whole..length {
        let x = f64::from(unsafe { *of.add(i) });
        total += x * x;
    }
    total
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
pub fn powi(base: f64, exponent: f64) -> f64 {
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
