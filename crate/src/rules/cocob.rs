//! COCOB: no learning rate; each parameter bets on its gradient's sign. Orabona & Tommasi, 2017, algorithm 2.

use crate::{lane::Lane, rule::*, scalar::*};

hyper! {
    pub struct Cocob { lr: f64, alpha: f64, eps: f64, weight_decay: f64 }
}

/// The slots are the sum of gradients, the largest, the sum of their sizes, the reward, and where the parameters began.
impl Rule<5> for Cocob {
    const READ_ONLY: usize = 1;

    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr)
    }

    fn update<V: Lane>(&self, _step: f64) -> impl Fn(V, V, [V; 5]) -> (V, [V; 5]) {
        let [lr, decay, alpha, zero, least] =
            [self.lr, self.weight_decay, self.alpha, 0.0, MIN_NORMAL_F32].map(V::splat);
        move |p, g, [sum, largest, sizes, reward, start]| {
            let g = lr * (g + decay * p);
            let size = g.max(zero - g);
            let (sum, sizes, largest) = (sum - g, sizes + size, size.max(largest));
            // Padding has seen none.
            let least = largest.max(least);
            let reward = (reward - g * (p - start)).max(zero);
            let share = sum / least / (sizes + largest).max(alpha * least);
            (start + share * (largest + reward), [sum, largest, sizes, reward, start])
        }
    }
}
