//! DoG: the learning rate is the largest distance from the initial parameters, over the root of the sum of squared
//! gradients. Ivgi, Hinder & Carmon, 2023.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Dog { lr: f64, eps: f64, weight_decay: f64, max_dist: f64, grads_sq: f64, rate: f64 }
}

/// The slot is the initial parameters.
impl Rule<1> for Dog {
    const UNROLL: usize = 2;
    const READ_ONLY: usize = 1;

    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr * self.rate)
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let (lr, penalty) = (V::splat(self.lr * self.rate), Penalty::new(self.weight_decay));
        move |p, g, start| (p - lr * penalty.add(g, p), start)
    }
}

/// The sums of the squares of the distance, of the gradients with weight decay, and of the parameters.
impl Measure<1, 3> for Dog {
    fn measure<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> Measurement<V, 1, 3> {
        let penalty = Penalty::new(self.weight_decay);
        move |p, g, start| {
            let (g, distance) = (penalty.add(g, p), start[0] - p);
            (start, [(distance, distance), (g, g), (p, p)])
        }
    }
}
