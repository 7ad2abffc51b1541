//! Sophia: momentum divided by an estimate of the Hessian's diagonal, clipped. Liu et al., 2023.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Sophia { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, gamma: f64, clip_threshold: f64 }
}

/// The slots are the mean gradient, and the mean of the Hessian estimates, which TypeScript writes.
impl Rule<2> for Sophia {
    const UNROLL: usize = 2;
    const READ_ONLY: usize = 1;
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn decays(&self) -> [f64; 2] {
        [self.betas[0], 1.0]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let inverse = 1.0 / (1.0 - powi(self.betas[0], step));
        let keep = 1.0 - self.lr * self.weight_decay;
        let [inverse, keep, lr, gamma] = [inverse, keep, self.lr, self.gamma].map(V::splat);
        let [most, least] = [self.clip_threshold, -self.clip_threshold].map(V::splat);
        let (mean, eps) = (Average::new(self.betas[0]), eps_vector::<V>(self.eps));
        move |p, g, [m, h]| {
            let m = mean.of(m, g);
            let ratio = inverse * m / (gamma * h).max(eps);
            (keep * p - lr * ratio.max(least).min(most), [m, h])
        }
    }
}
