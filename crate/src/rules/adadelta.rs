//! Adadelta: the gradient over its running root mean square, times that of the past updates. Zeiler, 2012.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Adadelta { lr: f64, rho: f64, eps: f64, weight_decay: f64 }
}

/// The slots are the mean squares of the gradient and of the updates.
impl Rule<2> for Adadelta {
    fn least_gradient(&self) -> f64 {
        least_averaged(self.rho)
    }

    fn decays(&self) -> [f64; 2] {
        [self.rho; 2]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let (lr, penalty) = (V::splat(self.lr), Penalty::new(self.weight_decay));
        let eps = V::splat(if self.eps > MIN_NORMAL_F32 { self.eps } else { MIN_NORMAL_F32 });
        let (average, least) = (Average::new(self.rho), V::splat(self.least_gradient()));
        move |p, g, [square, updates]| {
            let g = penalty.add(g, p);
            let square = average.of(square, g * g);
            let delta = (updates + eps).sqrt() / (square + eps).sqrt() * g;
            let squared = delta.zero_below(least); // the update may be much smaller than the gradient
            (p - lr * delta, [square, average.of(updates, squared * squared)])
        }
    }
}
