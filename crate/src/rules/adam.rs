//! Adam: Kingma & Ba, 2015. With a third slot, AMSGrad: Reddi, Kale & Kumar, 2018.

use crate::{
    lane::{Lane, sqrt},
    rule::*,
};

hyper! {
    pub struct Adam { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, bias_correction: f64 }
}

impl<const N: usize> Rule<N> for Adam {
    fn tiny(&self) -> f64 {
        sqrt(SMALLEST / (1.0 - self.betas[1]))
    }

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
        let bias = |beta| if self.bias_correction != 0.0 { 1.0 - power(beta, step) } else { 1.0 };
        let [lr, scale] = [self.lr / bias(self.betas[0]), 1.0 / sqrt(bias(self.betas[1]))].map(V::splat);
        let [mean, mean_square] = self.betas.map(Average::new);
        let eps = epsilon(self.eps);
        move |p, g, mut slots| {
            slots[0] = mean.of(slots[0], g);
            slots[1] = mean_square.of(slots[1], g * g);
            if N == 3 {
                slots[2] = slots[1].max(slots[2]);
            }
            (p - lr * slots[0] / (slots[N - 1].sqrt() * scale + eps), slots)
        }
    }
}
