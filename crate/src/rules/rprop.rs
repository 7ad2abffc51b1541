//! Rprop: each parameter's own step grows while its gradient keeps its sign, and shrinks when that changes.
//! Riedmiller & Braun, 1993, without going back, as PyTorch has it.

use crate::{lane::Lane, rule::*};

hyper! {
    pub struct Rprop { etas: [f64; 2], step_sizes: [f64; 2] }
}

/// The slots are the last gradient and the step.
impl Rule<2> for Rprop {
    fn tiny(&self) -> f64 {
        SMALLEST
    }

    fn update<V: Lane>(&self, _step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let ([shrink, grow], [least, most]) = (self.etas.map(V::splat), self.step_sizes.map(V::splat));
        let [zero, one, infinity] = [0.0, 1.0, f64::INFINITY].map(V::splat);
        move |p, g, [last, size]| {
            let kept = g.sign() * last.sign();
            let same = kept.max(zero);
            let turned = (zero - kept).max(zero);
            let size = size * (same * grow + turned * shrink + (one - same - turned));
            let size = size.max(least).min(most);
            // Where the sign has changed, the parameter rests, and the next step begins anew.
            let g = g.zero_below(turned * infinity);
            (p - size * g.sign(), [g, size])
        }
    }
}
