//! COCOB: each parameter bets on the sign of its gradient, without a learning rate. Orabona & Tommasi, 2017, algorithm
//! 2.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Cocob { lr: f64, alpha: f64, eps: f64, weight_decay: f64 }
}

/// The slots are the sum of the gradients, the largest magnitude, the sum of the magnitudes, the reward, and the
/// initial parameters.
impl Rule<5> for Cocob {
    const READ_ONLY: usize = 1;

    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr)
    }

    fn decays(&self) -> [f64; 5] {
        [1.0; 5]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 5]) -> (V, [V; 5]) {
        let [lr, alpha, zero, least] = [self.lr, self.alpha, 0.0, MIN_NORMAL_F32].map(V::splat);
        let penalty = Penalty::new(self.weight_decay);
        move |p, g, [sum, largest, magnitudes, reward, start]| {
            let g = lr * penalty.add(g, p);
            let magnitude = g.abs();
            let (sum, magnitudes, largest) = (sum - g, magnitudes + magnitude, magnitude.max(largest));
            // The largest is zero for padding, which has no gradients.
            let least = largest.max(least);
            let reward = (reward - g * (p - start)).max(zero);
            let fraction = sum / least / (magnitudes + largest).max(alpha * least);
            (start + fraction * (largest + reward), [sum, largest, magnitudes, reward, start])
        }
    }
}
