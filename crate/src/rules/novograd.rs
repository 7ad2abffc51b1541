//! NovoGrad: momentum of gradients divided by the root of their tensor's second moment. Ginsburg et al., 2019, as in
//! Optax.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct NovoGrad { lr: f64, betas: [f64; 2], eps: f64, eps_root: f64, weight_decay: f64, grad_norm_sq: f64 }
}

impl NovoGrad {
    fn scale(&self) -> f64 {
        1.0 / eps_scalar(sqrt(self.grad_norm_sq + self.eps_root) + self.eps)
    }
}

impl Rule<1> for NovoGrad {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        let scale = self.scale();
        least_scaled(if scale < self.lr { scale } else { self.lr })
    }

    fn decays(&self) -> [f64; 1] {
        [self.betas[0]]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let [lr, beta, scale] = [self.lr, self.betas[0], self.scale()].map(V::splat);
        let penalty = Penalty::new(self.weight_decay);
        move |p, g, [m]| {
            let m = beta * m + penalty.add(scale * g, p);
            (p - lr * m, [m])
        }
    }
}

/// The sum of the squares of the gradients.
impl Measure<1, 1> for NovoGrad {
    fn measure<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> Measurement<V, 1, 1> {
        move |_, g, state| (state, [(g, g)])
    }
}
