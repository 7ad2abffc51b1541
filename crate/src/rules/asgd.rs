//! ASGD: gradient descent with a falling learning rate, and an average of the parameters. Polyak & Juditsky, 1992.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Asgd { lr: f64, lambd: f64, alpha: f64, t0: f64, weight_decay: f64, eta: f64, mu: f64 }
}

/// The slot is the average of the parameters.
impl Rule<1> for Asgd {
    const UNROLL: usize = 2;

    fn least_gradient(&self) -> f64 {
        least_scaled(self.eta)
    }

    fn decays(&self) -> [f64; 1] {
        [1.0 - self.mu]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let [eta, keep] = [self.eta, 1.0 - self.lambd * self.eta].map(V::splat);
        let (penalty, mu) = (Penalty::new(self.weight_decay), Lerp::new(self.mu));
        move |p, g, [average]| {
            let p = keep * p - eta * penalty.add(g, p);
            (p, [mu.between(average, p)])
        }
    }
}
