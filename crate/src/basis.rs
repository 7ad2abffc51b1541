//! Orthonormal bases: by Householder's reflections, in panels as products have them; and what is computed in one.

use core::array::from_fn;

use crate::{
    axes::{get, lanes, put},
    lane::{Lane, WIDTH, sqrt},
    matrix::{PANEL, pieces, place},
    rule::{Average, MIN_NORMAL_F32, eps_lane},
};

/// What is nearer to zero counts as zero, so that no product of two numbers is subnormal: the root of the smallest normal one.
const TINY: f32 = 1.0 / (1u64 << 63) as f32;

/// Lanes in a row of a panel.
const LANES: usize = PANEL / WIDTH;

/// Reflections that a panel's columns stand for, from its first row on: `I - v * transpose(v)` each, and those panels that
/// they are applied to.
#[repr(C)]
pub struct Reflect {
    pub of: *mut f32,
    pub to: *mut f32,
    pub rows: u32,
    /// Which panel's; of `to`, the first.
    pub panel: u32,
    pub first: u32,
    /// Whether the last comes first.
    pub reverse: u32,
    pub piece: u32,
}

impl Reflect {
    fn panel_of(&self, matrix: *mut f32, panel: usize) -> *mut f32 {
        matrix.wrapping_add(panel * PANEL * self.rows as usize)
    }
}

/// Turns a panel's columns into the reflections that bring them, one after the other, to the axes.
///
/// # Safety
/// What is said is valid.
#[inline(always)]
pub unsafe fn find_reflections<V: Lane>(reflect: &Reflect, _begin: usize, _end: usize) {
    let rows = reflect.rows as usize;
    let panel = reflect.panel_of(reflect.of, reflect.panel as usize);
    let top = reflect.panel as usize * PANEL;
    for column in 0..PANEL {
        let at = |row: usize| panel.wrapping_add(row * PANEL + column);
        unsafe {
            for row in top..top + column {
                *at(row) = 0.0;
            }
            let top = top + column;
            let mut squares = 0.0;
            for row in top..rows {
                let x = f64::from(*at(row));
                squares += x * x;
            }
            let first = f64::from(*at(top));
            let norm = sqrt(squares);
            let head = if first < 0.0 { first - norm } else { first + norm };
            // The square of what is left is twice the norm times the head; as long as the root of two it must be.
            let length = sqrt(norm * head.abs());
            let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
            *at(top) = head as f32;
            for row in top..rows {
                let x = (f64::from(*at(row)) * scale) as f32;
                *at(row) = if x.abs() < TINY { 0.0 } else { x };
            }
            // Columns behind it alone.
            let mask = from_fn(|lane| V::from_fn(|i| if lane * WIDTH + i > column { 1.0 } else { 0.0 }));
            apply::<V>(at(0), panel, top, rows, mask);
        }
    }
}

/// Applies a panel's reflections to the panels in the pieces of `begin..end`.
///
/// # Safety
/// What is said is valid.
#[inline(always)]
pub unsafe fn reflect<V: Lane>(reflect: &Reflect, begin: usize, end: usize) {
    let panel = reflect.panel as usize;
    let of = reflect.panel_of(reflect.of, panel);
    let mask = [V::splat(1.0); LANES];
    for piece in pieces(reflect.piece, begin, end) {
        let to = reflect.panel_of(reflect.to, reflect.first as usize + piece);
        for i in 0..PANEL {
            let column = if reflect.reverse != 0 { PANEL - 1 - i } else { i };
            unsafe { apply(of.add(column), to, panel * PANEL, reflect.rows as usize, mask) };
        }
    }
}

/// Applies one reflection to a panel, from a row on; to those columns where the mask is one.
#[inline(always)]
unsafe fn apply<V: Lane>(of: *const f32, to: *mut f32, top: usize, rows: usize, mask: [V; LANES]) {
    let mut along = [V::splat(0.0); LANES];
    let v = |row: usize| V::splat(f64::from(unsafe { *of.add(row * PANEL) }));
    let lanes = |row: usize| from_fn(|lane| unsafe { to.add(row * PANEL + lane * WIDTH) });
    for row in top..rows {
        let at: [_; LANES] = lanes(row);
        along = from_fn(|lane| along[lane] + v(row) * unsafe { V::load(at[lane]) });
    }
    let tiny = V::splat(f64::from(TINY));
    along = from_fn(|lane| (mask[lane] * along[lane]).zero_below(tiny));
    for row in top..rows {
        let at: [_; LANES] = lanes(row);
        for (at, along) in at.into_iter().zip(along) {
            unsafe { (V::load(at) - v(row) * along).zero_below(tiny).store(at) };
        }
    }
}

/// Columns of a matrix in panels, and how they are to be ordered.
#[repr(C)]
pub struct Order {
    pub left: *const f32,
    pub right: *const f32,
    /// For each column the sum of its products, and which column is to stand there.
    pub sums: *mut f32,
    pub order: *mut u32,
    pub rows: u32,
    pub columns: u32,
    pub piece: u32,
}

/// Orders columns by the sums of the products of the one matrix' and the other's, the largest first.
///
/// # Safety
/// What is said is valid.
#[inline(always)]
pub unsafe fn rank(order: &Order, _begin: usize, _end: usize) {
    let [rows, columns] = [order.rows, order.columns].map(|count| count as usize);
    unsafe {
        for column in 0..columns {
            let mut sum = 0.0;
            for row in 0..rows {
                let at = place(rows, row, column);
                sum += f64::from(*order.left.add(at)) * f64::from(*order.right.add(at));
            }
            *order.sums.add(column) = sum as f32;
            *order.order.add(column) = column as u32; // should one be no number
        }
        for column in 0..columns {
            let sum = *order.sums.add(column);
            let mut before = 0;
            for other in 0..columns {
                let of_other = *order.sums.add(other);
                before += usize::from(of_other > sum || (of_other == sum && other < column));
            }
            *order.order.add(before) = column as u32;
        }
    }
}

/// `right` is `left` with its columns in order: those in the pieces of `begin..end`.
///
/// # Safety
/// What is said is valid, and `right` is not `left`.
#[inline(always)]
pub unsafe fn reorder(order: &Order, begin: usize, end: usize) {
    let to = order.right.cast_mut();
    let rows = order.rows as usize;
    for column in pieces(order.piece, begin, end) {
        unsafe {
            let from = *order.order.add(column) as usize;
            for row in 0..rows {
                *to.add(place(rows, row, column)) = *order.left.add(place(rows, row, from));
            }
        }
    }
}

/// Adam's second moment and direction, from gradients and their average: both in whatever basis the moment is.
#[repr(C)]
pub struct Adapt {
    pub beta: f64,
    pub eps: f64,
    pub grads: *const f32,
    pub squares: *mut f32,
    pub averages: *mut f32,
    pub size: u32,
    pub piece: u32,
}

/// Updates the squares `begin..end`, and leaves the direction in the averages' place.
///
/// # Safety
/// What is said is valid.
#[inline(always)]
pub unsafe fn adapt<V: Lane>(adapt: &Adapt, begin: usize, end: usize) {
    let (mean, eps, smallest) = (Average::new(adapt.beta), eps_lane::<V>(adapt.eps), V::splat(MIN_NORMAL_F32));
    lanes(end.min(adapt.size as usize) - begin, |at, one| unsafe {
        let [grad, squares, average] =
            [adapt.grads.cast_mut(), adapt.squares, adapt.averages].map(|of| of.add(begin + at));
        let (g, m) = (get::<V>(grad, one), get::<V>(average, one));
        let square = mean.of(get(squares, one), g * g).zero_below(smallest);
        put(square, squares, one);
        put(m / (square.sqrt() + eps), average, one);
    });
}
