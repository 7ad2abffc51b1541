//! Adamax: Adam that divides by a decaying maximum of the gradients instead of their root mean square. Kingma & Ba,
//! 2015, section 7.1.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Adamax { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, eps_outside: f64 }
}

impl Rule<2> for Adamax {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn decays(&self) -> [f64; 2] {
        self.betas
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let lr = V::splat(self.lr / (1.0 - powi(self.betas[0], step)));
        let (penalty, mean) = (Penalty::new(self.weight_decay), Average::new(self.betas[0]));
        let beta = V::splat(self.betas[1]);
        let (outside, eps) = if self.eps_outside != 0.0 { (self.eps, 0.0) } else { (0.0, self.eps) };
        let (outside, eps) = (V::splat(outside), eps_vector(eps));
        move |p, g, [m, largest]| {
            let g = penalty.add(g, p);
            let m = mean.of(m, g);
            let largest = (g.abs() + eps).max(beta * largest);
            (p - lr * m / (largest + outside), [m, largest])
        }
    }
}
