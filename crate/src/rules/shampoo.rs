//! Shampoo: the gradient between inverse roots of what its rows and its columns have in common. Gupta, Koren & Singer, 2018.

use crate::{lane::Lane, rule::*, scalar::*};

hyper! {
    pub struct Shampoo { lr: f64, eps: f64, weight_decay: f64, trace: f64 }
}

/// The slot is the direction: what [`Measure`] leaves there is preconditioned before the update.
impl Rule<1> for Shampoo {
    const MEASURED: usize = 1;

    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn update<V: Lane>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let [keep, lr] = [1.0 - self.lr * self.weight_decay, self.lr].map(V::splat);
        move |p, _, [direction]| (keep * p - lr * direction, [direction])
    }
}

/// The square of the gradient.
impl Measure<1, 1> for Shampoo {
    fn measure<V: Lane>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> Measurement<V, 1, 1> {
        |_, g, _| ([g], [(g, g)])
    }
}
