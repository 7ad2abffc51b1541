//! Adagrad: the step of each parameter is divided by the root of the sum of its squared gradients. Duchi, Hazan &
//! Singer, 2011.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Adagrad { lr: f64, lr_decay: f64, eps: f64, weight_decay: f64, eps_in_sqrt: f64 }
}

impl Rule<1> for Adagrad {
    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn decays(&self) -> [f64; 1] {
        [1.0]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let lr = V::splat(self.lr / (1.0 + (step - 1.0) * self.lr_decay));
        let (inside, eps) = eps_pair(self.eps, self.eps_in_sqrt);
        let penalty = Penalty::new(self.weight_decay);
        move |p, g, [sum]| {
            let g = penalty.add(g, p);
            let sum = sum + g * g;
            (p - lr * g / ((sum + inside).sqrt() + eps), [sum])
        }
    }
}
