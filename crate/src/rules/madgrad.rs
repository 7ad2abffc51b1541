//! MADGRAD: dual averaging over the cube root of the summed squares. Defazio & Jelassi, 2021.

use crate::{f32x4::F32x4, math::powf, rule::*, scalar::*};

hyper! {
    pub struct Madgrad { lr: f64, momentum: f64, weight_decay: f64, eps: f64 }
}

impl Madgrad {
    /// The weight of a step's gradient. As in the authors' code, `eps` is added to the rate, unless the rate is zero.
    fn weight(&self, step: f64) -> f64 {
        if self.lr == 0.0 { 0.0 } else { (self.lr + self.eps) * sqrt(step) }
    }
}

/// The slots are the weighted sums of squares and of gradients, and the initial parameters.
impl Rule<3> for Madgrad {
    const READ_ONLY: usize = 1;

    fn least_gradient(&self) -> f64 {
        sqrt(least_scaled(self.lr))
    }

    fn decays(&self) -> [f64; 3] {
        [1.0; 3]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 3]) -> (V, [V; 3]) {
        let [weight, take] = [self.weight(step), 1.0 - self.momentum].map(V::splat);
        let penalty = Penalty::new(self.weight_decay);
        let (third, eps) = (V::splat(1.0 / 3.0), eps_vector(self.eps));
        let most = V::splat(f32::MAX as f64);
        move |p, g, [squares, sum, start]| {
            let g = penalty.add(g, p);
            // The square of a large gradient is infinite, of which `powf` gives NaN.
            let (squares, sum) = ((squares + weight * (g * g)).min(most), sum + weight * g);
            let target = start - sum / (powf(squares, third) + eps);
            (p + take * (target - p), [squares, sum, start])
        }
    }
}
