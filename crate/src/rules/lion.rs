//! Lion: the sign of an average of the gradient. Chen et al., 2023.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Lion { lr: f64, betas: [f64; 2], weight_decay: f64 }
}

impl Rule<1> for Lion {
    const UNROLL: usize = 2;

    fn least_gradient(&self) -> f64 {
        least_scaled(1.0 - self.betas[0].max(self.betas[1]))
    }

    fn decays(&self) -> [f64; 1] {
        [self.betas[1]]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let [lr, keep] = [self.lr, 1.0 - self.lr * self.weight_decay].map(V::splat);
        let [for_update, for_state] = self.betas.map(Average::new);
        move |p, g, [m]| (keep * p - lr * for_update.of(m, g).sign(), [for_state.of(m, g)])
    }
}
