//! Scalars that a rule computes once per call, in double precision: bounds against subnormal numbers, `eps`, averages,
//! powers.

pub use crate::f32x4::sqrt;
use crate::{f32x4::F32x4, guard::least_state};

/// The smallest normal number of single precision, 2^-126.
pub const MIN_NORMAL_F32: f64 = f32::MIN_POSITIVE as f64;

/// The square root of [`MIN_NORMAL_F32`], 2^-63. The product of two numbers that are not below this is never subnormal.
pub const SQRT_MIN_NORMAL_F32: f64 = 1.0 / (1u64 << 63) as f64;

/// The least gradient of a rule that multiplies gradients only by the learning rate and by factors near one. The
/// product with the rate is at least 2^-100, which leaves room for the factors, and for state to decay until it is
/// guarded. The rate counts as at least 2^-34, because state changes even at a rate of zero, and as at most 1/16.
pub fn least_scaled(lr: f64) -> f64 {
    const LEAST_PRODUCT: f64 = 1.0 / (1u128 << 100) as f64;
    LEAST_PRODUCT / lr.abs().clamp(1.0 / (1u64 << 34) as f64, 1.0 / 16.0)
}

/// The least gradient of a rule that squares gradients, and adds the squares up or averages them over many elements.
pub fn least_squared() -> f64 {
    sqrt(least_state(1.0))
}

/// The least gradient of a rule that averages squared gradients over steps, with the decay rate `beta`.
pub fn least_averaged(beta: f64) -> f64 {
    sqrt(least_state(beta) / (1.0 - beta))
}

/// `eps` for a denominator: at least the root of the smallest mean square that is stored. With a smaller one, state of
/// zero would give zero divided by zero.
pub fn eps_scalar(eps: f64) -> f64 {
    // `f64::max` would take more bytes in each kernel, because it looks for NaN.
    if eps < SQRT_MIN_NORMAL_F32 { SQRT_MIN_NORMAL_F32 } else { eps }
}

/// [`eps_scalar`] in every element of a vector.
pub fn eps_vector<V: F32x4>(eps: f64) -> V {
    V::splat(eps_scalar(eps))
}

/// The two places of `eps` in a denominator, `sqrt(x + inside) + outside`: the first if `in_sqrt` is not zero,
/// otherwise the second.
pub fn eps_pair<V: F32x4>(eps: f64, in_sqrt: f64) -> (V, V) {
    let (inside, outside) = if in_sqrt != 0.0 { (eps, 0.0) } else { (0.0, eps) };
    (V::splat(inside), eps_vector(outside))
}

/// An exponential moving average.
#[derive(Clone, Copy)]
pub struct Average<V> {
    beta: V,
    weight: V,
}

impl<V: F32x4> Average<V> {
    pub fn new(beta: f64) -> Self {
        Self::scaled(beta, 1.0)
    }

    /// The average of numbers times `scale`: the weight of a number is `(1 - beta) * scale`.
    pub fn scaled(beta: f64, scale: f64) -> Self {
        Self { beta: V::splat(beta), weight: V::splat((1.0 - beta) * scale) }
    }

    /// `beta * average + weight * x`.
    #[inline(always)]
    pub fn of(self, average: V, x: V) -> V {
        self.beta * average + self.weight * x
    }

    /// `beta * average + weight * x * x`, from the left: `x * x` alone could be infinite.
    #[inline(always)]
    pub fn of_square(self, average: V, x: V) -> V {
        self.beta * average + self.weight * x * x
    }
}

/// Coupled weight decay, an L2 penalty: its gradient is added to that of the loss. Without weight decay, nothing is added.
/// Otherwise an infinite parameter would become NaN.
#[derive(Clone, Copy)]
pub struct Penalty<V>(Option<V>);

impl<V: F32x4> Penalty<V> {
    pub fn new(weight_decay: f64) -> Self {
        Self((weight_decay != 0.0).then(|| V::splat(weight_decay)))
    }

    /// `g + weight_decay * p`.
    #[inline(always)]
    pub fn add(self, g: V, p: V) -> V {
        match self.0 {
            Some(weight_decay) => g + weight_decay * p,
            None => g,
        }
    }
}

/// Linear interpolation with a weight from 0 to 1, for averages of parameters.
#[derive(Clone, Copy)]
pub struct Lerp<V> {
    weight: V,
    is_whole: bool,
}

impl<V: F32x4> Lerp<V> {
    pub fn new(weight: f64) -> Self {
        Self { weight: V::splat(weight), is_whole: weight == 1.0 }
    }

    /// `from + weight * (to - from)`. A weight of 1 gives `to`, even if `from` is NaN or far away.
    #[inline(always)]
    pub fn between(self, from: V, to: V) -> V {
        if self.is_whole { to } else { from + self.weight * (to - from) }
    }
}

/// Adam's learning rate with both bias corrections.
#[inline(always)]
pub fn corrected_rate(lr: f64, betas: [f64; 2], step: f64) -> f64 {
    let [first, second] = betas.map(|beta| 1.0 - powi(beta, step));
    lr * sqrt(second) / first
}

/// `base` to the power of `exponent`, a whole number. Squaring and multiplying give the same bits on every machine.
#[inline(never)] // so that the binary has it once, and not in every kernel that corrects a bias
pub fn powi(base: f64, exponent: f64) -> f64 {
    /// A smaller base counts as zero when it is squared, so that repeated squares are never subnormal.
    const LEAST_BASE: f64 = 1.0 / (1u128 << 127) as f64;
    let (mut base, mut exponent, mut result) = (base, exponent as u32, 1.0);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base = if base < LEAST_BASE { 0.0 } else { base * base };
        exponent >>= 1;
    }
    result
}
