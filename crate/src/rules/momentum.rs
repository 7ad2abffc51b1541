//! Momentum with the learning rate inside the velocity: Rumelhart, Hinton & Williams, 1986; Sutskever et al., 2013.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Momentum { lr: f64, momentum: f64 }
}

/// The slot is the velocity. It is not [`Rule::FADING`], unlike the buffer of `Sgd`: it already contains the learning
/// rate, so the update adds it to the parameter as it is.
impl Rule<1> for Momentum {
    const UNROLL: usize = 2;

    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr)
    }

    fn decays(&self) -> [f64; 1] {
        [self.momentum]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let [lr, momentum] = [self.lr, self.momentum].map(V::splat);
        move |p, g, [v]| {
            let v = momentum * v - lr * g;
            (p + v, [v])
        }
    }
}
