//! Sorting the columns of a matrix in panels.

use crate::matrix::{offset, pieces};

/// The arguments of [`rank`] and [`reorder`].
#[repr(C)]
pub struct ColumnOrder {
    pub left: *const f32,
    pub right: *const f32,
    /// Room for the dot product of each column of `left` with the same column of `right`.
    pub dots: *mut f32,
    /// For each place, the column that belongs there.
    pub order: *mut u32,
    /// Rows and columns of both matrices.
    pub rows: u32,
    pub columns: u32,
    /// The length of a piece; see [`pieces`].
    pub piece: u32,
}

/// Sorts columns by the dot products of `left` and `right`, the largest first, and writes `order`.
///
/// # Safety
/// - `left` and `right` are valid for the panels of their rows and columns.
/// - `dots` and `order` are valid for `columns` elements.
#[inline(always)]
pub unsafe fn rank(arguments: &ColumnOrder, _begin: usize, _end: usize) {
    let ColumnOrder { left, right, dots, order, .. } = *arguments;
    let [rows, columns] = [arguments.rows, arguments.columns].map(|count| count as usize);
    unsafe {
        for column in 0..columns {
            let mut sum = 0.0;
            for row in 0..rows {
                let at = offset(rows, row, column);
                sum += f64::from(*left.add(at)) * f64::from(*right.add(at));
            }
            *dots.add(column) = sum as f32;
            *order.add(column) = column as u32; // for places that nothing is written to below, if a dot product is NaN
        }
        for column in 0..columns {
            let dot = *dots.add(column);
            let mut place = 0;
            for other in 0..columns {
                let of_other = *dots.add(other);
                place += usize::from(of_other > dot || (of_other == dot && other < column));
            }
            *order.add(place) = column as u32;
        }
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
