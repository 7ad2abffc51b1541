//! Adam: Kingma & Ba, 2015. With a third slot, AMSGrad: Reddi, Kale & Kumar, 2018.

use crate::{
    lane::{Lane, sqrt},
    rule::*,
};

hyper! {
    pub struct Adam { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, bias_correction: f64 }
}

impl<const N: usize> Rule<N> for Adam {
    /// The decay joins the gradient.
    fn update<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) {
        let decay = V::splat(self.weight_decay);
        let moments = self.moments(step);
        move |p, g, slots| moments(p, g + decay * p, slots)
    }
}

impl Adam {
    /// The update itself, without decay: a step along the mean gradient over the root of its mean square.
    pub(super) fn moments<V: Lane, const N: usize>(
        &self,
        step: f64,
    ) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) + use<V, N> {
        let [b1, b2] = self.betas;
        let correct = |beta| {
            if self.bias_correction != 0.0 { 1.0 - power(beta, step) } else { 1.0 }
        };
        let (lr, scale) = (V::splat(self.lr / correct(b1)), V::splat(1.0 / sqrt(correct(b2))));
        let (c1, c2, eps) = (V::splat(1.0 - b1), V::splat(1.0 - b2), V::splat(self.eps));
        let (b1, b2) = (V::splat(b1), V::splat(b2));
        move |p, g, mut slots| {
            slots[0] = b1 * slots[0] + c1 * g;
            slots[1] = b2 * slots[1] + c2 * (g * g);
            if N == 3 {
                slots[2] = slots[1].max(slots[2]);
            }
            (p - lr * slots[0] / (slots[N - 1].sqrt() * scale + eps), slots)
        }
    }

    /// What decoupled decay leaves of a parameter in a step.
    pub(super) fn keep(&self) -> f64 {
        1.0 - self.lr * self.weight_decay
    }
}
