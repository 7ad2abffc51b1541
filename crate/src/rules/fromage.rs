//! Fromage: a step in proportion to the norm of the tensor, after which the norm is restored. Bernstein et al., 2020.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Fromage { lr: f64, min_norm: f64, trust_ratio: f64 }
}

impl Rule<0> for Fromage {
    const UNROLL: usize = 2;

    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr * self.trust_ratio)
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 0]) -> (V, [V; 0]) {
        let keep = 1.0 / sqrt(1.0 + self.lr * self.lr);
        let [keep, lr] = [keep, keep * self.lr * self.trust_ratio].map(V::splat);
        move |p, g, []| (keep * p - lr * g, [])
    }
}

/// The sums of the squares of the parameters, and of the gradients.
impl Measure<0, 2> for Fromage {
    fn measure<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 0]) -> Measurement<V, 0, 2> {
        move |p, g, state| (state, [(p, p), (g, g)])
    }
}
