//! LAMB: Adam whose step in each tensor is in proportion to the norm of the tensor. You et al., 2020.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Lamb { lr: f64, betas: [f64; 2], eps: f64, eps_root: f64, weight_decay: f64, trust_ratio: f64 }
}

impl Lamb {
    /// Adam's direction from a parameter and the moments, with weight decay.
    fn direction<V: F32x4>(&self, step: f64) -> impl Fn(V, [V; 2]) -> V + use<V> {
        let [first, second] = self.betas.map(|beta| 1.0 - powi(beta, step));
        let (scale, root) = (1.0 / sqrt(second), self.eps_root * second);
        let [inverse, scale, root] = [1.0 / first, scale, root].map(V::splat);
        let (eps, penalty) = (eps_vector(self.eps), Penalty::new(self.weight_decay));
        move |p, [m, v]| penalty.add(inverse * m / ((v + root).sqrt() * scale + eps), p)
    }
}

impl Rule<2> for Lamb {
    const MEASURED: usize = 2;
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 2] {
        self.betas
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let (lr, direction) = (V::splat(self.lr * self.trust_ratio), self.direction(step));
        move |p, _, moments| (p - lr * direction(p, moments), moments)
    }
}

/// The sums of the squares of the parameters, and of the direction.
impl Measure<2, 2> for Lamb {
    fn measure<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> Measurement<V, 2, 2> {
        let [mean, mean_square] = self.betas.map(Average::new);
        let direction = self.direction(step);
        move |p, g, [m, v]| {
            let moments = [mean.of(m, g), mean_square.of(v, g * g)];
            let direction = direction(p, moments);
            (moments, [(p, p), (direction, direction)])
        }
    }
}
