//! ADOPT: Adam that divides by the mean square of the previous gradients, without the current one. Taniguchi et al.,
//! 2024.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Adopt { lr: f64, betas: [f64; 2], eps: f64 }
}

impl Rule<2> for Adopt {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 2] {
        self.betas
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        // The first step only initializes the mean square.
        let [lr, most, zero] = [self.lr, sqrt(sqrt(step - 1.0)), 0.0].map(V::splat);
        let mean = Average::new(self.betas[0]);
        let mean_square = Average::new(if step == 1.0 { 0.0 } else { self.betas[1] });
        let eps = eps_vector(self.eps);
        move |p, g, [m, v]| {
            let m = mean.of(m, (g / v.sqrt().max(eps)).max(zero - most).min(most));
            (p - lr * m, [m, mean_square.of(v, g * g)])
        }
    }
}
