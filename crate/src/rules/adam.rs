//! Adam: Kingma & Ba, 2015. With a third slot, AMSGrad: Reddi, Kale & Kumar, 2018.

use crate::{lane::Lane, rule::*, scalar::*};

hyper! {
    pub struct Adam {
        lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, bias_correction: f64, eps_root: f64, eps_hat: f64,
        nesterov: f64, amsgrad_corrected: f64,
    }
}

impl<const N: usize> Rule<N> for Adam {
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    /// Weight decay is added to the gradient.
    fn update<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) {
        let decay = V::splat(self.weight_decay);
        let moments = self.moments(step);
        move |p, g, slots| moments(p, g + decay * p, slots)
    }
}

impl Adam {
    /// The update without weight decay: a step along the mean gradient over the root of its mean square.
    #[inline(always)]
    pub(super) fn moments<V: Lane, const N: usize>(
        &self,
        step: f64,
    ) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) + use<V, N> {
        let b1 = self.betas[0];
        let [first, second] =
            if self.bias_correction != 0.0 { self.betas.map(|beta| powi(beta, step)) } else { [0.0; 2] };
        let (next, first, second) = (1.0 - b1 * first, 1.0 - first, 1.0 - second);
        // AMSGrad takes the maximum of corrected squares or of uncorrected ones, which are corrected last.
        let late = if N == 3 && self.amsgrad_corrected != 0.0 { 1.0 } else { second };
        let scale = 1.0 / sqrt(late);
        let eps = eps_lane(if self.eps_hat != 0.0 { self.eps * scale } else { self.eps });
        let [early, root, scale] = [late / second, self.eps_root * late, scale].map(V::splat);
        let nesterov = self.nesterov != 0.0;
        let lr = self.lr / first;
        let ahead = if nesterov { self.lr * b1 / next } else { lr };
        let [ahead, now] = [ahead, lr * (1.0 - b1)].map(V::splat);
        let [mean, mean_square] = self.betas.map(Average::new);
        move |p, g, mut slots| {
            slots[0] = mean.of(slots[0], g);
            slots[1] = mean_square.of(slots[1], g * g);
            if N == 3 {
                slots[2] = (early * slots[1]).max(slots[2]);
            }
            let mut direction = ahead * slots[0];
            if nesterov {
                direction = direction + now * g;
            }
            (p - direction / ((slots[N - 1] + root).sqrt() * scale + eps), slots)
        }
    }
}
