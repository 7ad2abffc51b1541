//! D-Adaptation for AdamW: the learning rate is estimated by a lower bound on the distance to the solution.
//! Defazio & Mishchenko, 2023, as in Optax.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct DAdaptAdamW {
        lr: f64, betas: [f64; 2], eps: f64, estim_lr0: f64, weight_decay: f64,
        estim_lr: f64, next_estim_lr: f64, numerator: f64,
    }
}

impl DAdaptAdamW {
    /// The learning rate that follows from an estimate.
    fn rate(&self, estimate: f64, step: f64) -> f64 {
        corrected_rate(estimate * self.lr, self.betas, step)
    }
}

/// The slots are the moments, and the mean of the steps (gradients times the rate). The first moment is a mean of
/// steps, too, so it is not [`Rule::FADING`]: the update does not multiply it by the rate again.
impl Rule<3> for DAdaptAdamW {
    const MEASURED: usize = 3;

    fn least_gradient(&self) -> f64 {
        least_averaged(self.betas[1])
    }

    fn decays(&self) -> [f64; 3] {
        [self.betas[0], self.betas[1], sqrt(self.betas[1])]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 3]) -> (V, [V; 3]) {
        let keep = V::splat(1.0 - self.weight_decay * self.rate(self.estim_lr, step));
        let eps = eps_vector(self.eps);
        move |p, _, state| (keep * p - state[0] / (state[1].sqrt() + eps), state)
    }
}

/// The sums are the dot product of the steps with their weighted mean before, and the sum of the magnitudes of the
/// mean.
impl Measure<3, 2> for DAdaptAdamW {
    fn measure<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 3]) -> Measurement<V, 3, 2> {
        let estimate = if self.next_estim_lr == 0.0 { self.estim_lr0 } else { self.next_estim_lr };
        let (rate, eps) = (V::splat(self.rate(estimate, step)), eps_vector(self.eps));
        let one = V::splat(1.0);
        let [mean, mean_square] = self.betas.map(Average::new);
        let sum_of = Average::new(sqrt(self.betas[1]));
        move |_, g, [m, v, sum]| {
            let (taken, weighted) = (rate * g, sum / (v.sqrt() + eps));
            let sum = sum_of.of(sum, taken);
            ([mean.of(m, taken), mean_square.of(v, g * g), sum], [(taken, weighted), (sum.abs(), one)])
        }
    }
}
