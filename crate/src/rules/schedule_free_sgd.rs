//! Schedule-free SGD: gradients are taken between where descent is and the mean of where it was. Defazio et al., 2024.

use crate::{lane::Lane, rule::*, scalar::*};

hyper! {
    pub struct ScheduleFreeSgd {
        lr: f64, betas: [f64; 1], weight_decay: f64, weight_lr_power: f64, weight_sum: f64, max_lr: f64, ck: f64,
    }
}

/// The slot is where descent is; the parameters are where gradients are taken.
impl Rule<1> for ScheduleFreeSgd {
    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr)
    }

    fn update<V: Lane>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let decay = V::splat(self.weight_decay);
        let both = between(self.lr, self.betas[0], self.ck);
        move |p, g, [z]| {
            let (p, z) = both(p, z, g + decay * p);
            (p, [z])
        }
    }
}

/// Both points moved along `u`: `z` by the rate, and `y`, at `beta` from `z` to the mean `x`, as `x` takes in `ck` of `z`.
pub(super) fn between<V: Lane>(lr: f64, beta: f64, ck: f64) -> impl Fn(V, V, V) -> (V, V) {
    let [lr, own, ck] = [lr, lr * (1.0 - beta * (1.0 - ck)), ck].map(V::splat);
    move |y, z, u| (y + ck * (z - y) - own * u, z - lr * u)
}
