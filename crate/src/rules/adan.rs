//! Adan: Adam with Nesterov momentum, estimated from the change of the gradient. Xie et al., 2022.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Adan { lr: f64, betas: [f64; 3], eps: f64, weight_decay: f64, no_prox: f64 }
}

/// The slots are the means of the gradient, of its change, and of the square of their combination, and the last
/// gradient.
impl Rule<4> for Adan {
    const FADING: Range<usize> = 0..2;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[2])
    }

    fn decays(&self) -> [f64; 4] {
        [self.betas[0], self.betas[1], self.betas[2], 1.0]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 4]) -> (V, [V; 4]) {
        let [m, d, n] = self.betas.map(|beta| 1.0 - powi(beta, step));
        let decay = self.lr * self.weight_decay;
        let prox = 1.0 / (1.0 + decay);
        let [keep, lr] = if self.no_prox != 0.0 { [1.0 - decay, self.lr] } else { [prox, self.lr * prox] };
        // Numerator and denominator are multiplied by the root of the mean square's correction.
        let root = sqrt(n);
        let [m, d] = [lr * root / m, lr * root * self.betas[1] / d].map(V::splat);
        let [keep, ahead, eps] = [keep, self.betas[1], eps_scalar(self.eps) * root].map(V::splat);
        let [mean, mean_change, mean_square] = self.betas.map(Average::new);
        let (first, least) = (step == 1.0, V::splat(self.least_gradient()));
        move |p, g, [mut mg, mut change, mut square, last]| {
            let delta = g - if first { g } else { last };
            let look = (g + ahead * delta).zero_below(least); // a difference may be small
            mg = mean.of(mg, g);
            change = mean_change.of(change, delta);
            square = mean_square.of(square, look * look);
            (keep * p - (m * mg + d * change) / (square.sqrt() + eps), [mg, change, square, g])
        }
    }
}
