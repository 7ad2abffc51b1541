//! QR decomposition by Householder reflections, of matrices in panels.

use core::array::from_fn;

use crate::{
    f32x4::{F32x4, LANES, sqrt},
    matrix::{PANEL, VECTORS, pieces},
    scalar::SQRT_MIN_NORMAL_F32,
};

/// The arguments of [`find_reflections`] and [`reflect`]. Each column `v` of the panel `panel` of `reflectors` is the
/// reflection `I - v * transpose(v)`. It begins at the panel's first diagonal element.
#[repr(C)]
pub struct Reflect {
    pub reflectors: *mut f32,
    /// The matrix that the reflections are applied to.
    pub target: *mut f32,
    /// Rows of both matrices.
    pub rows: u32,
    pub panel: u32,
    /// The index of the panel of `target` that is the first piece.
    pub first: u32,
    /// Whether to apply the reflections from the last to the first.
    pub reverse: u32,
    /// The length of a piece; see [`pieces`].
    pub piece: u32,
}

impl Reflect {
    fn panel_of(&self, matrix: *mut f32, panel: usize) -> *mut f32 {
        matrix.wrapping_add(panel * PANEL * self.rows as usize)
    }
}

/// Replaces each column of a panel, from left to right, by the reflection that makes the matrix upper triangular in that
/// column.
///
/// # Safety
/// `reflectors` is valid for the panels of a matrix of `rows` rows up to `panel`, and `rows` is a multiple of
/// [`PANEL`].
#[inline(always)]
pub unsafe fn find_reflections<V: F32x4>(arguments: &Reflect, _begin: usize, _end: usize) {
    let rows = arguments.rows as usize;
    let panel = arguments.panel_of(arguments.reflectors, arguments.panel as usize);
    let top = arguments.panel as usize * PANEL;
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
            // With this head, the column's squared norm is 2 * norm * |head|. That of a reflection is 2.
            let length = sqrt(norm * head.abs());
            let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
            *at(top) = head as f32;
            for row in top..rows {
                let x = (f64::from(*at(row)) * scale) as f32;
                *at(row) = if x.abs() < SQRT_MIN_NORMAL_F32 as f32 { 0.0 } else { x };
            }
            // Only the columns after this one.
            let mask = from_fn(|vector| V::from_fn(|i| if vector * LANES + i > column { 1.0 } else { 0.0 }));
            apply::<V>(at(0), panel, top, rows, mask);
        }
    }
}

/// Applies the reflections of a panel to the panels of `target` in the pieces that begin in `begin..end`.
///
/// # Safety
/// `reflectors` and `target` are valid for the panels that the arguments name, and these panels do not overlap.
#[inline(always)]
pub unsafe fn reflect<V: F32x4>(arguments: &Reflect, begin: usize, end: usize) {
    let panel = arguments.panel as usize;
    let reflectors = arguments.panel_of(arguments.reflectors, panel);
    let mask = [V::splat(1.0); VECTORS];
    for piece in pieces(arguments.piece, begin, end) {
        let target = arguments.panel_of(arguments.target, arguments.first as usize + piece);
        for i in 0..PANEL {
            let column = if arguments.reverse != 0 { PANEL - 1 - i } else { i };
            unsafe { apply(reflectors.add(column), target, panel * PANEL, arguments.rows as usize, mask) };
        }
    }
}

/// Applies one reflection to the rows `top..rows` of a panel, in those columns where the mask is one.
#[inline(always)]
unsafe fn apply<V: F32x4>(reflector: *const f32, target: *mut f32, top: usize, rows: usize, mask: [V; VECTORS]) {
    let mut projection = [V::splat(0.0); VECTORS];
    let v = |row: usize| V::splat(f64::from(unsafe { *reflector.add(row * PANEL) }));
    let vectors = |row: usize| from_fn(|vector| unsafe { target.add(row * PANEL + vector * LANES) });
    for row in top..rows {
        let at: [_; VECTORS] = vectors(row);
        projection = from_fn(|vector| projection[vector] + v(row) * unsafe { V::load(at[vector]) });
    }
    let least = V::splat(SQRT_MIN_NORMAL_F32);
    projection = from_fn(|vector| (mask[vector] * projection[vector]).zero_below(least));
    for row in top..rows {
        let at: [_; VECTORS] = vectors(row);
        for (at, projection) in at.into_iter().zip(projection) {
            unsafe { (V::load(at) - v(row) * projection).zero_below(least).store(at) };
        }
    }
}
