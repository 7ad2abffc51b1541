//! AdaBelief: Adam that divides by the distance of the gradient from its mean. Zhuang et al., 2020.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct AdaBelief { lr: f64, betas: [f64; 2], eps: f64, eps_root: f64 }
}

impl Rule<2> for AdaBelief {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 2] {
        self.betas
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let [first, second] = self.betas.map(|beta| 1.0 - powi(beta, step));
        let [lr, scale, root] = [self.lr / first, 1.0 / sqrt(second), self.eps_root].map(V::splat);
        let [mean, mean_square] = self.betas.map(Average::new);
        let (least, eps) = (V::splat(self.least_gradient()), eps_vector(self.eps));
        move |p, g, [m, s]| {
            let m = mean.of(m, g);
            // For steady gradients the difference is close to zero, and its square would be subnormal.
            let surprise = (g - m).zero_below(least);
            let s = mean_square.of(s, surprise * surprise) + root;
            (p - lr * m / (s.sqrt() * scale + eps), [m, s])
        }
    }
}
