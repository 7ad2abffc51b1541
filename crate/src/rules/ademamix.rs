//! AdEMAMix: Adam with a second mean of the gradient, which is slower. Pagliardini, Ablin & Grangier, 2024.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct AdEMAMix { lr: f64, betas: [f64; 3], alpha: f64, eps: f64, weight_decay: f64 }
}

/// The slots are the fast mean, the slow one, and the mean square.
impl Rule<3> for AdEMAMix {
    const FADING: Range<usize> = 0..2;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 3] {
        [self.betas[0], self.betas[2], self.betas[1]]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 3]) -> (V, [V; 3]) {
        let [fast, square, _] = self.betas.map(|beta| 1.0 - powi(beta, step));
        let [fast, scale] = [1.0 / fast, 1.0 / sqrt(square)].map(V::splat);
        let [lr, keep, alpha] = [self.lr, 1.0 - self.lr * self.weight_decay, self.alpha].map(V::splat);
        let [mean, mean_square, slow_mean] = self.betas.map(Average::new);
        let eps = eps_vector(self.eps);
        move |p, g, [m, slow, v]| {
            let (m, slow, v) = (mean.of(m, g), slow_mean.of(slow, g), mean_square.of(v, g * g));
            (keep * p - lr * (m * fast + alpha * slow) / (v.sqrt() * scale + eps), [m, slow, v])
        }
    }
}
