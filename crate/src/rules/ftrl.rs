//! FTRL-Proximal: follow the regularized leader. McMahan et al., 2013, as in Keras.

use crate::{f32x4::F32x4, math::powf, rule::*, scalar::*};

hyper! {
    pub struct Ftrl {
        lr: f64, lr_power: f64, l1_regularization_strength: f64, l2_regularization_strength: f64,
        l2_shrinkage_regularization_strength: f64, beta: f64,
    }
}

/// The slots are the sum of squared gradients, and the linear term (`z` in the paper).
impl Rule<2> for Ftrl {
    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn decays(&self) -> [f64; 2] {
        [1.0; 2]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 2]) -> (V, [V; 2]) {
        let (strength, least) = (self.l1_regularization_strength, MIN_NORMAL_F32);
        let [most, low] = [strength, -strength].map(V::splat);
        let l2 = 2.0 * self.l2_regularization_strength + self.beta / self.lr;
        let shrink = 2.0 * self.l2_shrinkage_regularization_strength;
        let [inverse, l2, shrink, exponent] = [1.0 / self.lr, l2 + least, shrink, -self.lr_power].map(V::splat);
        let square_root = self.lr_power == -0.5;
        let rate = move |x: V| inverse * if square_root { x.sqrt() } else { powf(x, exponent) };
        move |p, g, [squares, linear]| {
            let (before, squares) = (rate(squares), squares + g * g);
            let now = rate(squares);
            let linear = linear + (g + shrink * p) - (now - before) * p;
            ((linear.max(low).min(most) - linear) / (now + l2), [squares, linear])
        }
    }
}
