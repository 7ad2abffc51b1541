//! RMSprop: the gradient over the root of its running mean square. Hinton, 2012 (lecture 6e); centered: Graves, 2013.

use crate::{lane::Lane, rule::*};

hyper! {
    pub struct Rmsprop<const CENTERED: bool> { lr: f64, alpha: f64, eps: f64, weight_decay: f64, momentum: f64 }
}

/// The slots are the mean square, the mean if centered, and the momentum buffer if there is one.
impl<const CENTERED: bool, const N: usize> Rule<N> for Rmsprop<CENTERED> {
    fn update<V: Lane>(&self, _step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) {
        let (lr, eps, decay) = (V::splat(self.lr), V::splat(self.eps), V::splat(self.weight_decay));
        let (alpha, fresh) = (V::splat(self.alpha), V::splat(1.0 - self.alpha));
        let (momentum, zero) = (V::splat(self.momentum), V::splat(0.0));
        move |p, g, mut slots| {
            let g = g + decay * p;
            slots[0] = alpha * slots[0] + fresh * (g * g);
            let mut variance = slots[0];
            if CENTERED {
                slots[1] = alpha * slots[1] + fresh * g;
                // Rounding can leave a steady gradient's variance just below zero.
                variance = (variance - slots[1] * slots[1]).max(zero);
            }
            let mut direction = g / (variance.sqrt() + eps);
            if N == 2 + CENTERED as usize {
                slots[N - 1] = momentum * slots[N - 1] + direction;
                direction = slots[N - 1];
            }
            (p - lr * direction, slots)
        }
    }
}
