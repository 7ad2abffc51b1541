//! Optimistic Adam: Adam that adds the difference of the update from the last one. Daskalakis et al., 2018; Mokhtari et
//! al., 2020.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct OptimisticAdam {
        lr: f64, alpha: f64, beta: f64, betas: [f64; 2], eps: f64, eps_root: f64, nesterov: f64,
    }
}

/// The slots are the moments and the last update.
impl Rule<3> for OptimisticAdam {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 3] {
        [self.betas[0], self.betas[1], 1.0]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 3]) -> (V, [V; 3]) {
        let b1 = self.betas[0];
        let [first, second] = self.betas.map(|beta| powi(beta, step));
        let ahead = if self.nesterov != 0.0 { b1 / (1.0 - b1 * first) } else { 1.0 / (1.0 - first) };
        let now = if self.nesterov != 0.0 { (1.0 - b1) / (1.0 - first) } else { 0.0 };
        let (scale, root) = (1.0 / sqrt(1.0 - second), self.eps_root * (1.0 - second));
        // The first step has no last update.
        let back = if step > 1.0 { self.lr * self.beta } else { 0.0 };
        let forth = self.lr * self.alpha + back;
        let [ahead, now, scale, root, back, forth] = [ahead, now, scale, root, back, forth].map(V::splat);
        let [mean, mean_square] = self.betas.map(Average::new);
        let eps = eps_vector(self.eps);
        move |p, g, [m, v, last]| {
            let (m, v) = (mean.of(m, g), mean_square.of(v, g * g));
            let update = (ahead * m + now * g) / ((v + root).sqrt() * scale + eps);
            (p - forth * update + back * last, [m, v, update])
        }
    }
}
