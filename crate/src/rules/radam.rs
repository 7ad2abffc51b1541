//! RAdam: Adam that divides by the root mean square only once the variance of the quotient is small enough. Liu et al., 2020.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct RAdam { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, decoupled_weight_decay: f64 }
}

impl Rule<2> for RAdam {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 2] {
        self.betas
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let powers = self.betas.map(|beta| powi(beta, step));
        let longest = 2.0 / (1.0 - self.betas[1]) - 1.0;
        let length = longest - 2.0 * step * powers[1] / (1.0 - powers[1]);
        let lr = self.lr / (1.0 - powers[0]);
        let is_rectified = length > 5.0;
        let lr = if is_rectified {
            let longer = (longest - 4.0) * (longest - 2.0) * length;
            let rectified = sqrt((length - 4.0) * (length - 2.0) * longest / longer);
            lr * rectified * sqrt(1.0 - powers[1])
        } else {
            lr
        };
        let [lr, eps, one] = [lr, eps_scalar(self.eps), 1.0].map(V::splat);
        let decoupled = self.decoupled_weight_decay != 0.0;
        let penalty = Penalty::new(if decoupled { 0.0 } else { self.weight_decay });
        let keep = V::splat(if decoupled { 1.0 - self.lr * self.weight_decay } else { 1.0 });
        let [mean, mean_square] = self.betas.map(Average::new);
        move |p, g, [m, v]| {
            let g = penalty.add(g, p);
            let (m, v) = (mean.of(m, g), mean_square.of(v, g * g));
            // A step that is not rectified has no division by the root, so an infinite square does no harm.
            let denominator = if is_rectified { v.sqrt() + eps } else { one };
            (keep * p - lr * m / denominator, [m, v])
        }
    }
}
