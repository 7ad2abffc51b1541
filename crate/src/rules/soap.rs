//! SOAP: Adam in the eigenbasis of Shampoo's preconditioners. Vyas et al., 2024.

use crate::{
    f32x4::{F32x4, for_each_vector, load_vector, store_vector},
    rule::*,
    scalar::*,
};

hyper! {
    pub struct Soap { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, bias_correction: f64, trace: f64 }
}

/// The slots are the mean gradient, and the direction. [`Measure`] writes the gradient to the second one, and the program
/// replaces it by Adam's direction. At the first step there is no basis yet, so the parameters stay.
impl Rule<2> for Soap {
    const MEASURED: usize = 2;
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn decays(&self) -> [f64; 2] {
        [self.betas[0], 1.0]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let corrected = if self.bias_correction != 0.0 && step > 1.0 {
            let [first, second] = self.betas.map(|beta| 1.0 - powi(beta, step - 1.0));
            sqrt(second) / first
        } else {
            1.0
        };
        let lr = if step > 1.0 { self.lr } else { 0.0 };
        let [keep, lr] = [1.0 - lr * self.weight_decay, lr * corrected].map(V::splat);
        move |p, _, [average, direction]| (keep * (p - lr * direction), [average, direction])
    }
}

/// The sum of the squares of the gradient.
impl Measure<2, 1> for Soap {
    fn measure<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> Measurement<V, 2, 1> {
        let mean = Average::new(if step > 1.0 { self.betas[0] } else { 1.0 });
        move |_, g, [average, _]| ([mean.of(average, g), g], [(g, g)])
    }
}

/// The arguments of [`adapt`]: arrays in the basis of the second moment.
#[repr(C)]
pub struct Adapt {
    pub beta: f64,
    pub eps: f64,
    pub grads: *const f32,
    /// Adam's second moment.
    pub squares: *mut f32,
    /// Adam's first moment, and then its direction.
    pub averages: *mut f32,
    /// Elements of each array.
    pub size: u32,
    /// Unused, because every element is a piece. All operations have it.
    pub piece: u32,
}

/// Updates Adam's second moment of the elements `begin..end`, and replaces their averages by Adam's direction.
///
/// # Safety
/// The pointers are valid for `size` elements, and the arrays do not overlap.
#[inline(always)]
pub unsafe fn adapt<V: F32x4>(adapt: &Adapt, begin: usize, end: usize) {
    let (mean, eps, least) = (Average::new(adapt.beta), eps_vector::<V>(adapt.eps), V::splat(MIN_NORMAL_F32));
    for_each_vector(end.min(adapt.size as usize) - begin, |i, single| unsafe {
        let [grad, squares, average] =
            [adapt.grads.cast_mut(), adapt.squares, adapt.averages].map(|block| block.add(begin + i));
        let (g, m) = (load_vector::<V>(grad, single), load_vector::<V>(average, single));
        let square = mean.of(load_vector(squares, single), g * g).zero_below(least);
        store_vector(square, squares, single);
        store_vector(m / (square.sqrt() + eps), average, single);
    });
}
