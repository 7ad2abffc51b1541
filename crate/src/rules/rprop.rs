//! Rprop: the step size of each parameter grows while its gradient keeps its sign, and shrinks when the sign changes.
//! Riedmiller & Braun, 1993, without backtracking, as in PyTorch.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Rprop { etas: [f64; 2], step_sizes: [f64; 2] }
}

/// The slots are the last gradient and the step size.
impl Rule<2> for Rprop {
    fn least_gradient(&self) -> f64 {
        MIN_NORMAL_F32
    }

    fn decays(&self) -> [f64; 2] {
        [1.0, self.etas[0]]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let ([shrink, grow], [least, most]) = (self.etas.map(V::splat), self.step_sizes.map(V::splat));
        let [one, huge] = [1.0, f32::MAX as f64].map(V::splat);
        move |p, g, [last, size]| {
            let kept = g.sign() * last.sign();
            // If the sign has changed, the second bound is the smaller one. Otherwise it is huge and has no effect.
            let factor = (kept * grow).max(one).min((kept + one) * huge + shrink);
            let size = (size * factor).max(least).min(most);
            // If the sign has changed, the parameter stays, and the next step has no last gradient.
            let g = g.zero_where_negative(kept);
            (p - size * g.sign(), [g, size])
        }
    }
}
