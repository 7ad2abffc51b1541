//! SOAP: Adam in the eigenbasis of Shampoo's preconditioners. Vyas et al., 2024.

use crate::{lane::Lane, rule::*};

hyper! {
    pub struct Soap { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64, bias_correction: f64, trace: f64 }
}

/// The slots are the average, and the direction: what [`Measure`] leaves there is the gradient, of which the program makes
/// what the update takes. At the first step there is no basis yet, so nothing moves.
impl Rule<2> for Soap {
    const MEASURED: usize = 2;
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn update<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let corrected = if self.bias_correction != 0.0 && step > 1.0 {
            let [first, second] = self.betas.map(|beta| 1.0 - powi(beta, step - 1.0));
            crate::lane::sqrt(second) / first
        } else {
            1.0
        };
        let lr = if step > 1.0 { self.lr } else { 0.0 };
        let [keep, lr] = [1.0 - lr * self.weight_decay, lr * corrected].map(V::splat);
        move |p, _, [average, direction]| (keep * (p - lr * direction), [average, direction])
    }
}

impl Measure<2, 1> for Soap {
    fn measure<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; 2]) -> Measurement<V, 2, 1> {
        let mean = Average::new(if step > 1.0 { self.betas[0] } else { 1.0 });
        move |_, g, [average, _]| ([mean.of(average, g), g], [(g, g)])
    }
}
