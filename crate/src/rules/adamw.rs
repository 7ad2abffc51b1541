//! AdamW: Adam with decoupled weight decay. Loshchilov & Hutter, 2019.

use super::adam::Adam;
use crate::{lane::Lane, rule::*};

#[repr(transparent)]
pub struct AdamW(Adam);

impl AdamW {
    pub const FIELDS: &str = Adam::FIELDS;
}

impl<const N: usize> Rule<N> for AdamW {
    const UNROLL: usize = if N == 2 { 1 } else { 2 }; // AMSGrad has no plain loop
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        Rule::<N>::least_gradient(&self.0)
    }

    fn decays(&self) -> [f64; N] {
        self.0.decays()
    }

    fn update<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) {
        self.decayed::<V, N, true>(step)
    }

    fn is_plain(&self) -> bool {
        Rule::<N>::is_plain(&self.0)
    }

    fn plain_update<V: Lane>(&self, step: f64) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) {
        self.decayed::<V, N, false>(step)
    }
}

impl AdamW {
    /// Weight decay shrinks the parameter.
    fn decayed<V: Lane, const N: usize, const OPTIONS: bool>(
        &self,
        step: f64,
    ) -> impl Fn(V, V, [V; N]) -> (V, [V; N]) + use<V, N, OPTIONS> {
        let keep = V::splat(1.0 - self.0.lr * self.0.weight_decay);
        let moments = self.0.moments::<V, N, OPTIONS>(step);
        move |p, g, slots| moments(keep * p, g, slots)
    }
}
