//! Yogi: Adam whose mean square changes by at most the squared gradient in a step. Zaheer et al., 2018.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Yogi { lr: f64, betas: [f64; 2], eps: f64 }
}

impl Rule<2> for Yogi {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 2] {
        self.betas
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let [first, second] = self.betas.map(|beta| 1.0 - powi(beta, step));
        let [lr, scale, take] = [self.lr / first, 1.0 / sqrt(second), 1.0 - self.betas[1]].map(V::splat);
        let mean = Average::new(self.betas[0]);
        let eps = eps_vector(self.eps);
        move |p, g, [m, v]| {
            let (m, square) = (mean.of(m, g), g * g);
            let v = v - take * ((v - square).sign() * square);
            (p - lr * m / (v.sqrt() * scale + eps), [m, v])
        }
    }
}
