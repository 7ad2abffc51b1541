//! SM3: Adagrad with one sum for each row and each column. Anil et al., 2019.

use crate::{
    f32x4::F32x4,
    factored::{Grid, accumulator},
    rule::*,
    scalar::*,
};

hyper! {
    pub struct Sm3 { lr: f64, momentum: f64, eps: f64, columns: f64, size: f64 }
}

/// The slots are the mean of the updates, and the statistics of rows and of columns. The program writes the last two after
/// the update.
impl Rule<3> for Sm3 {
    const READ_ONLY: usize = 2;
    const FADING: Range<usize> = 0..1;

    #[inline(always)]
    fn load<V: F32x4>(&self) -> impl Fn(&[*mut f32; 3], usize) -> [V; 3] {
        let grid = Grid::new(self.size / self.columns, self.columns, self.size);
        move |&[average, rows, columns], index| unsafe {
            let [row, column] = grid.load(rows, columns, index);
            [V::load(average.add(index)), row, column]
        }
    }

    fn least_gradient(&self) -> f64 {
        least_squared()
    }

    fn decays(&self) -> [f64; 3] {
        [self.momentum, 1.0, 1.0]
    }

    fn update<V: F32x4>(&self, _step: f64) -> impl Fn(V, V, [V; 3]) -> (V, [V; 3]) {
        let (lr, eps, mean) = (V::splat(self.lr), V::splat(self.eps), Average::new(self.momentum));
        let least = V::splat(MIN_NORMAL_F32);
        move |p, g, [average, row, column]| {
            // The lower bound of the sum prevents zero divided by zero when all gradients are zero.
            let sum = least.max(accumulator(g, row, column) + eps);
            let average = mean.of(average, g / sum.sqrt());
            (p - lr * average, [average, row, column])
        }
    }
}
