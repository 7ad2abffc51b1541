//! Signum: sign descent with momentum. Bernstein et al., 2018.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Signum { lr: f64, beta: f64 }
}

impl Rule<1> for Signum {
    const UNROLL: usize = 2;

    fn least_gradient(&self) -> f64 {
        least_scaled(1.0 - self.beta)
    }

    fn decays(&self) -> [f64; 1] {
        [self.beta]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let (lr, mean) = (V::splat(self.lr), Average::new(self.beta));
        move |p, g, [m]| {
            let m = mean.of(m, g);
            (p - lr * m.sign(), [m])
        }
    }
}
