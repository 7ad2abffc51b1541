//! Sorting the columns of a matrix in panels.

use crate::matrix::{TILE, offset, pieces};

/// The arguments of [`column_dots`], [`rank`] and [`reorder`].
#[repr(C)]
pub struct ColumnOrder {
    pub left: *const f32,
    pub right: *const f32,
    /// Room for the dot product of each column of `left` with the same column of `right`.
    pub dots: *mut f32,
    /// For each place in the sorted matrix, the index of the column before sorting.
    pub order: *mut u32,
    /// Rows and columns of both matrices.
    pub rows: u32,
    pub columns: u32,
    /// The length of a piece; see [`pieces`].
    pub piece: u32,
}

/// Writes the dot products of the columns in the pieces that begin in `begin..end` to `dots`. A NaN counts as the
/// smallest.
///
/// # Safety
/// - `left` and `right` are valid for the panels of their rows and columns.
/// - `dots` is valid for `columns` elements.
#[inline(always)]
pub unsafe fn column_dots(arguments: &ColumnOrder, begin: usize, end: usize) {
    let ColumnOrder { left, right, dots, .. } = *arguments;
    let rows = arguments.rows as usize;
    for column in pieces(arguments.piece, begin, end) {
        let mut sum = 0.0;
        for row in 0..rows {
            let at = offset(rows, row, column);
            sum += unsafe { f64::from(*left.add(at)) * f64::from(*right.add(at)) };
        }
        unsafe { *dots.add(column) = if sum.is_nan() { f32::NEG_INFINITY } else { sum as f32 } };
    }
}

/// Finds the places of columns by their dot products, the largest first, and writes `order`: for [`TILE`] columns in
/// each of the pieces that begin in `begin..end`.
///
/// # Safety
/// `dots` and `order` are valid for `columns` elements, and no dot product is NaN.
#[inline(always)]
pub unsafe fn rank(arguments: &ColumnOrder, begin: usize, end: usize) {
    let ColumnOrder { dots, order, .. } = *arguments;
    let columns = arguments.columns as usize;
    let pieces = pieces(arguments.piece, begin, end);
    for column in pieces.start * TILE..columns.min(pieces.end * TILE) {
        let dot = unsafe { *dots.add(column) };
        let mut place = 0;
        for other in 0..columns {
            let of_other = unsafe { *dots.add(other) };
            place += usize::from(of_other > dot || (of_other == dot && other < column));
        }
        unsafe { *order.add(place) = column as u32 };
    }
}

/// Copies `left` to `right` with its columns in order: those in the pieces that begin in `begin..end`.
///
/// # Safety
/// - `left` and `right` are valid for the panels of their rows and columns, and do not overlap. `right` is writable.
/// - `order` is valid for `columns` elements, each below `columns`.
#[inline(always)]
pub unsafe fn reorder(arguments: &ColumnOrder, begin: usize, end: usize) {
    let to = arguments.right.cast_mut();
    let rows = arguments.rows as usize;
    for column in pieces(arguments.piece, begin, end) {
        unsafe {
            let from = *arguments.order.add(column) as usize;
            for row in 0..rows {
                *to.add(offset(rows, row, column)) = *arguments.left.add(offset(rows, row, from));
            }
        }
    }
}
