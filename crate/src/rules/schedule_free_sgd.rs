//! Schedule-free SGD: gradients are computed between the iterate of SGD and its mean. Defazio et al., 2024.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct ScheduleFreeSgd {
        lr: f64, betas: [f64; 1], weight_decay: f64, weight_lr_power: f64, weight_sum: f64, max_lr: f64, ck: f64,
    }
}

/// The slot is the base iterate (`z` in the paper). The parameters are `y`, where gradients are computed.
impl Rule<1> for ScheduleFreeSgd {
    const UNROLL: usize = 2;

    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr)
    }

    fn decays(&self) -> [f64; 1] {
        [1.0]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let penalty = Penalty::new(self.weight_decay);
        let move_both = move_iterates(self.lr, self.betas[0], self.ck);
        move |p, g, [z]| {
            let (p, z) = move_both(p, z, penalty.add(g, p));
            (p, [z])
        }
    }
}

/// Moves `y` and `z` along `-u`. `z` moves by the rate. `y` stays at the fraction `beta` of the way from `z` to the
/// mean `x`, whose weight for the new `z` is `ck`.
pub(super) fn move_iterates<V: F32x4>(lr: f64, beta: f64, ck: f64) -> impl Fn(V, V, V) -> (V, V) {
    let [lr, lr_y, ck] = [lr, lr * (1.0 - beta * (1.0 - ck)), ck].map(V::splat);
    move |y, z, u| (y + ck * (z - y) - lr_y * u, z - lr * u)
}
