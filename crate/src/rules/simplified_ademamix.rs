//! Simplified AdEMAMix: Adam with a sum of gradients that fades, and the gradient itself beside it. Morwani et al., 2025.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct SimplifiedAdEMAMix {
        lr: f64, betas: [f64; 2], alpha: f64, eps: f64, eps_root: f64, weight_decay: f64,
    }
}

/// The slots are the fading sum and the mean square.
impl Rule<2> for SimplifiedAdEMAMix {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 2] {
        self.betas
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let late = 1.0 - powi(self.betas[1], step);
        let [scale, root] = [1.0 / sqrt(late), self.eps_root * late].map(V::splat);
        let [lr, keep, alpha] = [self.lr, 1.0 - self.lr * self.weight_decay, self.alpha].map(V::splat);
        let (beta, mean_square) = (V::splat(self.betas[0]), Average::new(self.betas[1]));
        let eps = eps_vector(self.eps);
        move |p, g, [m, v]| {
            let (m, v) = (beta * m + g, mean_square.of(v, g * g));
            (keep * p - lr * (m + alpha * g) / ((v + root).sqrt() * scale + eps), [m, v])
        }
    }
}
