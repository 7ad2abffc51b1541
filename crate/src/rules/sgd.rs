//! Gradient descent, stochastic when the gradient is a mini-batch's: Robbins & Monro, 1951.
//! With momentum: Polyak, 1964; Nesterov, 1983; in the form of Sutskever et al., 2013, and PyTorch.

use crate::{f32x4::F32x4, rule::*, scalar::*};

hyper! {
    pub struct Sgd { lr: f64, momentum: f64, dampening: f64, weight_decay: f64, nesterov: f64 }
}

impl Rule<0> for Sgd {
    const UNROLL: usize = 2;

    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr)
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 0]) -> (V, [V; 0]) {
        // A `Penalty` takes 1.1 times as long here. Without weight decay, this runs only if gradients are clipped by value.
        let [lr, decay] = [self.lr, self.weight_decay].map(V::splat);
        move |p, g, []| (p - lr * (g + decay * p), [])
    }

    fn is_plain(&self) -> bool {
        self.weight_decay == 0.0
    }

    fn plain_update<V: F32x4, const DECAY: bool>(
        &self,
        _step: f64,
        scale: f64,
    ) -> impl Fn(V, V, [V; 0]) -> (V, [V; 0]) {
        let weight = V::splat(self.lr * scale);
        move |p, g, []| (p - weight * g, [])
    }
}

impl Rule<1> for Sgd {
    const UNROLL: usize = 2;
    const FADING: Range<usize> = 0..1;

    fn least_gradient(&self) -> f64 {
        least_scaled(self.lr)
    }

    fn decays(&self) -> [f64; 1] {
        [self.momentum]
    }

    fn update<V: F32x4>(&self, step: f64) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let [lr, momentum] = [self.lr, self.momentum].map(V::splat);
        let penalty = Penalty::new(self.weight_decay);
        // As in PyTorch, the buffer starts as the first gradient, without dampening.
        let fresh = V::splat(if step == 1.0 { 1.0 } else { 1.0 - self.dampening });
        let nesterov = self.nesterov != 0.0;
        move |p, g, [buffer]| {
            let g = penalty.add(g, p);
            let buffer = momentum * buffer + fresh * g;
            let direction = if nesterov { g + momentum * buffer } else { buffer };
            (p - lr * direction, [buffer])
        }
    }

    fn is_plain(&self) -> bool {
        self.dampening == 0.0 && self.nesterov == 0.0
    }

    fn has_plain_decay(&self) -> bool {
        self.weight_decay != 0.0
    }

    fn plain_update<V: F32x4, const DECAY: bool>(
        &self,
        _step: f64,
        scale: f64,
    ) -> impl Fn(V, V, [V; 1]) -> (V, [V; 1]) {
        let [lr, decay, momentum, scale] = [self.lr, self.weight_decay, self.momentum, scale].map(V::splat);
        move |p, g, [buffer]| {
            let g = scale * g;
            let buffer = momentum * buffer + if DECAY { g + decay * p } else { g };
            (p - lr * buffer, [buffer])
        }
    }
}
