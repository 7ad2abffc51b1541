//! NAdam: Adam with Nesterov momentum that warms up. Dozat, 2016, as in PyTorch.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct NAdam {
        lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, momentum_decay: f64, decoupled_weight_decay: f64,
        mu: f64, mu_next: f64, mu_product: f64,
    }
}

impl Rule<2> for NAdam {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 2] {
        self.betas
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let now = self.lr * (1.0 - self.mu) / (1.0 - self.mu_product);
        let ahead = self.lr * self.mu_next / (1.0 - self.mu_product * self.mu_next);
        let scale = 1.0 / sqrt(1.0 - powi(self.betas[1], step));
        let [now, ahead, scale] = [now, ahead, scale].map(V::splat);
        let decoupled = self.decoupled_weight_decay != 0.0;
        let penalty = Penalty::new(if decoupled { 0.0 } else { self.weight_decay });
        let keep = V::splat(if decoupled { 1.0 - self.lr * self.weight_decay } else { 1.0 });
        let [mean, mean_square] = self.betas.map(Average::new);
        let eps = eps_vector(self.eps);
        move |p, g, [m, v]| {
            let g = penalty.add(g, p);
            let (m, v) = (mean.of(m, g), mean_square.of(v, g * g));
            (keep * p - (now * g + ahead * m) / (v.sqrt() * scale + eps), [m, v])
        }
    }
}
