//! Muon: momentum, as a matrix, orthogonalized by Newton-Schulz iterations. Jordan et al., 2024.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Muon {
        lr: f64, momentum: f64, weight_decay: f64, ns_coefficients: [f64; 3], eps: f64, nesterov: f64,
        bias_correction: f64, lr_ratio: f64, norm: f64,
    }
}

/// The slots are the momentum buffer, and the direction. [`Measure`] writes both, and the program orthogonalizes the
/// direction before the update. The buffer is not [`Rule::FADING`]: it becomes the direction with a factor near one.
impl Rule<2> for Muon {
    const MEASURED: usize = 2;

    fn least_gradient(&self) -> f64 {
        least_scaled(1.0 - self.momentum)
    }

    fn decays(&self) -> [f64; 2] {
        [self.momentum, 1.0]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let [keep, lr] = [1.0 - self.lr * self.weight_decay, self.lr * self.lr_ratio].map(V::splat);
        move |p, _, [buffer, direction]| (keep * p - lr * direction, [buffer, direction])
    }
}

/// The sum of the squares of the direction.
impl Measure<2, 1> for Muon {
    fn measure<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> Measurement<V, 2, 1> {
        let mean = Average::new(self.momentum);
        let correction = |step| if self.bias_correction != 0.0 { 1.0 - powi(self.momentum, step) } else { 1.0 };
        let [of_buffer, of_grad] = if self.nesterov != 0.0 {
            [self.momentum / correction(step + 1.0), (1.0 - self.momentum) / correction(step)]
        } else {
            [1.0 / correction(step), 0.0]
        }
        .map(V::splat);
        let nesterov = self.nesterov != 0.0;
        move |_, g, [buffer, _]| {
            let buffer = mean.of(buffer, g);
            let direction = of_buffer * buffer;
            let direction = if nesterov { direction + of_grad * g } else { direction };
            ([buffer, direction], [(direction, direction)])
        }
    }
}
