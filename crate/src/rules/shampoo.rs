//! Shampoo: the gradient multiplied by inverse roots of the second moments of its rows and of its columns.
//! Gupta, Koren & Singer, 2018.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Shampoo { lr: f64, eps: f64, weight_decay: f64, trace: f64 }
}

/// The slot is the direction. [`Measure`] writes the gradient to it, and the program preconditions it before the update.
impl Rule<1> for Shampoo {
    const MEASURED: usize = 1;

    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn decays(&self) -> [f64; 1] {
        [1.0]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let [keep, lr] = [1.0 - self.lr * self.weight_decay, self.lr].map(V::splat);
        move |p, _, [direction]| (keep * p - lr * direction, [direction])
    }
}

/// The sum of the squares of the gradient.
impl Measure<1, 1> for Shampoo {
    fn measure<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> Measurement<V, 1, 1> {
        |_, g, _| ([g], [(g, g)])
    }
}
