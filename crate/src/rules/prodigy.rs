//! Prodigy: D-Adaptation that finds the rate faster. Mishchenko & Defazio, 2023, as in Optax.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Prodigy {
        lr: f64, betas: [f64; 2], beta3: f64, eps: f64, estim_lr0: f64, estim_lr_coef: f64, weight_decay: f64,
        safeguard_warmup: f64, estim_lr: f64, next_estim_lr: f64, numerator: f64,
    }
}

impl Prodigy {
    /// The estimate at the beginning of a step.
    fn estimate(&self) -> f64 {
        if self.next_estim_lr == 0.0 { self.estim_lr0 } else { self.next_estim_lr }
    }

    /// The decay of the weighted sum.
    fn sum_decay(&self) -> f64 {
        if self.beta3 > 0.0 { self.beta3 } else { sqrt(self.betas[1]) }
    }

    /// The learning rate that follows from an estimate.
    fn rate(&self, estimate: f64, step: f64) -> f64 {
        corrected_rate(estimate * self.lr, self.betas, step)
    }
}

/// The slots are the moments, the weighted sum of gradients, and the initial parameters.
impl Rule<4> for Prodigy {
    const MEASURED: usize = 3;
    const READ_ONLY: usize = 1;
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1]) / self.estimate()
    }

    /// The mean after one gradient of the least magnitude. The moments contain the estimate as a factor.
    fn least_mean(&self) -> f64 {
        least_averaged(self.betas[1]) * (1.0 - self.betas[0])
    }

    fn decays(&self) -> [f64; 4] {
        [self.betas[0], self.betas[1], self.sum_decay(), 1.0]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 4]) -> (V, [V; 4]) {
        let rate = self.rate(self.estim_lr, step);
        let [keep, rate] = [1.0 - self.weight_decay * rate, rate].map(V::splat);
        let eps = eps_vector(self.next_estim_lr * self.eps);
        move |p, _, state| (keep * p - rate * state[0] / (state[1].sqrt() + eps), state)
    }
}

/// The sums are the weighted dot product of the gradients with the way back to the initial parameters, and the sum of
/// the magnitudes of the weighted sum of the gradients.
impl Measure<4, 2> for Prodigy {
    fn measure<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 4]) -> Measurement<V, 4, 2> {
        let estimate = self.estimate();
        let growth = estimate / self.estim_lr0;
        let rate = self.rate(estimate, step) * growth;
        let weight = if self.safeguard_warmup != 0.0 { estimate * growth } else { rate };
        let [estimate, weight, rate, beta] = [estimate, weight, rate, self.sum_decay()].map(V::splat);
        let one = V::splat(1.0);
        let [mean, mean_square] = self.betas.map(Average::new);
        move |p, g, [m, v, sum, start]| {
            let scaled = estimate * g;
            let sum = beta * sum + weight * g;
            let (m, v) = (mean.of(m, scaled), mean_square.of(v, scaled * scaled));
            ([m, v, sum, start], [(rate * g, start - p), (sum.abs(), one)])
        }
    }
}
