//! Adam: Kingma & Ba, 2015. With a third slot, AMSGrad: Reddi, Kale & Kumar, 2018.

use crate::{f32x4::F32x4, rule::*, scalar::*};
use core::array::from_fn;

hyper! {
    /// `DECOUPLED`: weight decay shrinks the parameter, as in AdamW, and is not added to the gradient.
    pub struct Adam<const DECOUPLED: bool> {
        lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, bias_correction: f64, eps_root: f64, eps_hat: f64,
        nesterov: f64, amsgrad_corrected: f64,
    }
}

impl<const DECOUPLED: bool, const N: usize> Rule<N> for Adam<DECOUPLED> {
    const UNROLL: usize = if N == 2 { 1 } else { 2 }; // AMSGrad has no plain loop
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; N] {
        from_fn(|slot| if slot < 2 { self.betas[slot] } else { 1.0 })
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) {
        self.formula::<V, N, true>(step, 1.0)
    }

    fn is_plain(&self) -> bool {
        N == 2 && self.nesterov == 0.0 && self.eps_root == 0.0 && (DECOUPLED || self.weight_decay == 0.0)
    }

    fn plain_update<V: F32x4, const DECAY: bool>(&self, step: f64, scale: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) {
        self.formula::<V, N, false>(step, scale)
    }
}

impl<const DECOUPLED: bool> Adam<DECOUPLED> {
    /// A step along the mean gradient, divided by the root of its mean square. With `OPTIONS`, gradients are scaled already,
    /// and `scale` is 1. Without, it has no option that `is_plain` names, and the weights of the averages contain `scale`.
    #[inline(always)]
    fn formula<V: F32x4, const N: usize, const OPTIONS: bool>(
        &self,
        step: f64,
        scale: f64,
    ) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) + use<V, DECOUPLED, N, OPTIONS> {
        let b1 = self.betas[0];
        let [first, second] =
            if self.bias_correction != 0.0 { self.betas.map(|beta| powi(beta, step)) } else { [0.0; 2] };
        let (next, first, second) = (1.0 - b1 * first, 1.0 - first, 1.0 - second);
        // AMSGrad takes the maximum of corrected mean squares, or of uncorrected ones. Then the maximum is corrected.
        let late = if N == 3 && self.amsgrad_corrected != 0.0 { 1.0 } else { second };
        // Both sides of the division are multiplied by the root of the correction, which saves an operation per
        // element.
        let late_root = sqrt(late);
        let eps = V::splat(eps_scalar(if self.eps_hat != 0.0 { self.eps / late_root } else { self.eps }) * late_root);
        let [early, root] = [late / second, self.eps_root * late].map(V::splat);
        let [nesterov, has_root] = [self.nesterov, self.eps_root].map(|option| OPTIONS && option != 0.0);
        let lr = self.lr * late_root / first;
        let ahead = if nesterov { self.lr * late_root * b1 / next } else { lr };
        let [ahead, now] = [ahead, lr * (1.0 - b1)].map(V::splat);
        let (mean, mean_square) = (Average::scaled(b1, scale), Average::scaled(self.betas[1], scale * scale));
        let keep = V::splat(1.0 - self.lr * self.weight_decay);
        let penalty = Penalty::new(if OPTIONS && !DECOUPLED { self.weight_decay } else { 0.0 });
        move |p, g, mut slots| {
            let p = if DECOUPLED { keep * p } else { p };
            let g = penalty.add(g, p);
            slots[0] = mean.of(slots[0], g);
            slots[1] = mean_square.of_square(slots[1], g);
            if N == 3 {
                slots[2] = (early * slots[1]).max(slots[2]);
            }
            let mut direction = ahead * slots[0];
            if nesterov {
                direction = direction + now * g;
            }
            let mut square = slots[N - 1];
            if has_root {
                square = square + root;
            }
            (p - direction / (square.sqrt() + eps), slots)
        }
    }
}
