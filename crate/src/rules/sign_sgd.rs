//! signSGD: each parameter moves by the learning rate, against the sign of its gradient. Bernstein et al., 2018.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct SignSgd { lr: f64 }
}

impl Rule<0> for SignSgd {
    const UNROLL: usize = 2;

    fn least_gradient(&self) -> f64 {
        MIN_NORMAL_F32
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 0]) -> (V, [V; 0]) {
        let lr = V::splat(self.lr);
        move |p, g, []| (p - lr * g.sign(), [])
    }
}
