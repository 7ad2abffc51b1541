//! LARS: momentum whose step in each tensor is in proportion to the norm of the tensor. You, Gitman & Ginsburg, 2017.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Lars {
        lr: f64, momentum: f64, weight_decay: f64, trust_coefficient: f64, eps: f64, nesterov: f64, trust_ratio: f64,
    }
}

/// The slot is the velocity. It is not [`Rule::FADING`], because it already contains the learning rate.
impl Rule<1> for Lars {
    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr * self.trust_ratio)
    }

    fn decays(&self) -> [f64; 1] {
        [self.momentum]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let [lr, momentum] = [self.lr * self.trust_ratio, self.momentum].map(V::splat);
        let (penalty, nesterov) = (Penalty::new(self.weight_decay), self.nesterov != 0.0);
        move |p, g, [buffer]| {
            let g = lr * penalty.add(g, p);
            let buffer = momentum * buffer + g;
            (p - if nesterov { g + momentum * buffer } else { buffer }, [buffer])
        }
    }
}

/// The sums of the squares of the parameters, and of the gradients with weight decay.
impl Measure<1, 2> for Lars {
    fn measure<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> Measurement<V, 1, 2> {
        let penalty = Penalty::new(self.weight_decay);
        move |p, g, state| {
            let g = penalty.add(g, p);
            (state, [(p, p), (g, g)])
        }
    }
}
