//! Adafactor: Adam whose second moment is factored into averages of rows and columns. Shazeer & Stern, 2018.

use crate::{f32x4::F32x4, factored::Grid, rule::*, scalar::*};

hyper! {
    pub struct Adafactor {
        lr: f64, beta2_decay: f64, eps: [f64; 2], d: f64, weight_decay: f64,
        rows: f64, columns: f64, size: f64, step_size: f64,
    }
}

impl Adafactor {
    /// The gradient over the root of the second moment, which is the product of the averages.
    fn direction<V: F32x4>(&self) -> impl Fn(V, [V; 3]) -> V + use<V> {
        let least = V::splat(eps_scalar(self.eps[0]) * eps_scalar(self.eps[0]));
        move |g, [row, column, ..]| g / (row * column).max(least).sqrt()
    }
}

/// The slots are the averages of columns, the second moment itself, and the averages of rows divided by their mean. A
/// matrix has the first and the last, a vector has the second, and the others are null. The program writes them before
/// the update.
impl Rule<3> for Adafactor {
    const READ_ONLY: usize = 3;

    #[inline(always)]
    fn load<V: F32x4>(&self) -> impl Fn(&[*mut f32; 3], usize) -> [V; 3] {
        let (grid, one) = (Grid::new(self.rows, self.columns, self.size), V::splat(1.0));
        move |&[columns, elements, rows], index| unsafe {
            if columns.is_null() {
                return [one, V::load(elements.add(index)), one];
            }
            let [row, column] = grid.load(rows, columns, index);
            [row, column, one]
        }
    }

    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 3]) -> (V, [V; 3]) {
        let [keep, step_size] = [1.0 - self.lr * self.weight_decay, self.step_size].map(V::splat);
        let direction = self.direction();
        move |p, g, state| (keep * p - step_size * direction(g, state), state)
    }
}

/// The sums of the squares of the parameters, and of the direction.
impl Measure<3, 2> for Adafactor {
    fn measure<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 3]) -> Measurement<V, 3, 2> {
        let direction = self.direction();
        move |p, g, state| {
            let u = direction(g, state);
            (state, [(p, p), (u, u)])
        }
    }
}
