//! SGD with Gaussian noise that decreases over time. Neelakantan et al., 2015.

use crate::{f32x4::F32x4, math::normal, rule::*, scalar::*};

hyper! {
    pub struct NoisySgd { lr: f64, eta: f64, gamma: f64, key: f64, size: f64, deviation: f64 }
}

impl Rule<0> for NoisySgd {
    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr)
    }

    fn add_noise<V: F32x4>(&self, step: f64) -> impl Fn(usize, V) -> V {
        let (deviation, seeds, end) =
            (V::splat(self.deviation), [step as u64 as u32, self.key as u32], self.size as u32);
        // Padding stays zero.
        move |index, g| g + deviation * V::ones_before(index as u32, end) * normal::<V>(index as u32, seeds)
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 0]) -> (V, [V; 0]) {
        let lr = V::splat(self.lr);
        move |p, g, []| (p - lr * g, [])
    }
}
