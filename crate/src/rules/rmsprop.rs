//! RMSprop: the gradient over the root of its running mean square. Hinton, 2012 (lecture 6e); centered: Graves, 2013.

use crate::{f32x4::F32x4, rule::*, scalar::*};
use core::array::from_fn;

hyper! {
    pub struct Rmsprop<const CENTERED: bool> {
        lr: f64, alpha: f64, eps: f64, weight_decay: f64, momentum: f64, eps_in_sqrt: f64,
    }
}

/// The slots are the mean square, the mean if centered, and the momentum buffer if there is momentum.
impl<const CENTERED: bool, const N: usize> Rule<N> for Rmsprop<CENTERED> {
    const FADING: Range<usize> = 1..N;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.alpha)
    }

    fn decays(&self) -> [f64; N] {
        from_fn(|slot| if slot == 1 + CENTERED as usize { self.momentum } else { self.alpha })
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) {
        let (lr, penalty) = (V::splat(self.lr), Penalty::new(self.weight_decay));
        let (inside, eps) = eps_pair(self.eps, self.eps_in_sqrt);
        let [momentum, zero] = [self.momentum, 0.0].map(V::splat);
        let average = Average::new(self.alpha);
        let least = V::splat(least_squared());
        let most = V::splat(f64::from(f32::MAX));
        move |p, g, mut slots| {
            let g = penalty.add(g, p);
            slots[0] = average.of(slots[0], g * g);
            let mut variance = slots[0];
            if CENTERED {
                slots[1] = average.of(slots[1], g);
                // Rounding can make the variance of a steady gradient slightly negative.
                let mean = slots[1].zero_below(least);
                // An infinite square of the mean is limited. The mean square is infinite then, and the difference would be NaN.
                variance = (variance - (mean * mean).min(most)).max(zero);
            }
            let mut direction = g / ((variance + inside).sqrt() + eps);
            if N == 2 + CENTERED as usize {
                slots[N - 1] = momentum * slots[N - 1] + direction;
                direction = slots[N - 1];
            }
            (p - lr * direction, slots)
        }
    }
}
