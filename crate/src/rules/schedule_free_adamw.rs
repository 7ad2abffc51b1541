//! Schedule-free AdamW: schedule-free SGD, divided by the root of the mean square. Defazio et al., 2024.

use super::schedule_free_sgd::move_iterates;
use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct ScheduleFreeAdamW {
        lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, weight_lr_power: f64,
        weight_sum: f64, max_lr: f64, ck: f64,
    }
}

/// The slots are the base iterate (`z` in the paper), and the mean square.
impl Rule<2> for ScheduleFreeAdamW {
    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 2] {
        [1.0, self.betas[1]]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let scale = 1.0 / sqrt(1.0 - powi(self.betas[1], step));
        let (scale, penalty) = (V::splat(scale), Penalty::new(self.weight_decay));
        let (mean_square, eps) = (Average::new(self.betas[1]), eps_vector(self.eps));
        let move_both = move_iterates(self.lr, self.betas[0], self.ck);
        move |p, g, [z, v]| {
            let v = mean_square.of(v, g * g);
            let (p, z) = move_both(p, z, penalty.add(g / (v.sqrt() * scale + eps), p));
            (p, [z, v])
        }
    }
}
