//! Whole matrices: products, and what brings matrices into the order that products read.
//!
//! A product's matrices stand in panels of [`PANEL`] columns, one panel behind the other, each row by row, and both
//! dimensions are filled up with zeros to multiples of `PANEL`. So a product reads both its sides straight through memory,
//! and what it writes is ready for the next one.
//!
//! An operation is shared out in pieces: those that begin in `begin..end`, where all are as long as `piece` says.

use core::ops::Range;

use crate::lane::{Lane, WIDTH};

/// Columns of a panel.
pub const PANEL: usize = 8;

/// Rows and columns of a piece of a product: its share of both sides stays in the cache.
const TILE: usize = 64;

/// Rows that a product keeps in registers, with a panel's columns.
const ROWS: usize = 4;

/// `out = alpha * transpose(left) * right + beta * plus`: every matrix in panels, and `plus`, if there is none, null.
#[repr(C)]
pub struct Product {
    pub alpha: f64,
    pub beta: f64,
    /// What comes out nearer to zero than this is zero.
    pub least: f64,
    pub left: *const f32,
    pub right: *const f32,
    pub plus: *const f32,
    pub out: *mut f32,
    /// Of the sides; of what comes out.
    pub depth: u32,
    pub rows: u32,
    pub columns: u32,
    /// Whether what comes out is its own transpose: then pieces below the diagonal are mirrored, not computed.
    pub symmetric: u32,
    pub piece: u32,
}

/// Computes the pieces of a product that begin in `begin..end`. An element is the sum over the depth from first to last.
///
/// # Safety
/// The dimensions are multiples of [`PANEL`], the pointers valid for as much, and `out` is neither side. What is symmetric
/// is square.
#[inline(always)]
pub unsafe fn multiply<V: Lane>(product: &Product, begin: usize, end: usize) {
    let Product { alpha, beta, least, left, right, plus, out, depth, rows, columns, symmetric, piece } = *product;
    let [depth, rows, columns] = [depth, rows, columns].map(|count| count as usize);
    let symmetric = symmetric != 0;
    let [alpha, beta, least] = [alpha, beta, least].map(V::splat);
    // Column by column; of what is symmetric, down to the diagonal.
    let down = |across: usize| if symmetric { across + 1 } else { rows.div_ceil(TILE) };
    for index in pieces(piece, begin, end) {
        let [mut top, mut start] = [index, 0];
        while top >= down(start) {
            top -= down(start);
            start += 1;
        }
        let [top, start] = [top, start].map(|tile| tile * TILE);
        let (bottom, stop) = (rows.min(top + TILE), columns.min(start + TILE));
        let mut column = start;
        while column < stop {
            let right = unsafe { right.add(column * depth) };
            let mut row = top;
            while row < bottom {
                unsafe {
                    let left = left.add(row / PANEL * PANEL * depth + row % PANEL);
                    let sums = inner::<V>(left, right, depth);
                    let at = column * rows + row * PANEL;
                    for (i, sum) in sums.into_iter().enumerate() {
                        let at = at + i * WIDTH;
                        let mut sum = alpha * sum;
                        if !plus.is_null() {
                            sum = sum + beta * V::load(plus.add(at));
                        }
                        sum.zero_below(least).store(out.add(at));
                    }
                }
                row += ROWS;
            }
            column += PANEL;
        }
        if symmetric && top != start {
            unsafe { mirror(out, rows, top..bottom, start..stop) };
        }
    }
}

/// Copies a part of a matrix in panels to where it stands in the transpose.
#[inline(always)]
unsafe fn mirror(matrix: *mut f32, size: usize, rows: Range<usize>, columns: Range<usize>) {
    for column in columns {
        for row in rows.clone() {
            unsafe { *matrix.add(place(size, column, row)) = *matrix.add(place(size, row, column)) };
        }
    }
}

/// Where an element stands in panels of so many rows.
pub fn place(rows: usize, row: usize, column: usize) -> usize {
    column / PANEL * PANEL * rows + row * PANEL + column % PANEL
}

/// The pieces that begin in `begin..end`.
#[inline(always)]
pub fn pieces(piece: u32, begin: usize, end: usize) -> Range<usize> {
    let piece = (piece as usize).max(1);
    begin.div_ceil(piece)..end.div_ceil(piece)
}

/// Some rows of a panel of what comes out.
#[inline(always)]
unsafe fn inner<V: Lane>(left: *const f32, right: *const f32, depth: usize) -> [V; ROWS * PANEL / WIDTH] {
    const LANES: usize = PANEL / WIDTH;
    let mut sums = [V::splat(0.0); ROWS * LANES];
    let mut at = 0;
    while at < depth * PANEL {
        unsafe {
            let of_right: [V; LANES] = core::array::from_fn(|lane| V::load(right.add(at + lane * WIDTH)));
            for row in 0..ROWS {
                let of_left = V::splat(f64::from(*left.add(at + row)));
                for lane in 0..LANES {
                    let sum = &mut sums[row * LANES + lane];
                    *sum = *sum + of_left * of_right[lane];
                }
            }
        }
        at += PANEL;
    }
    sums
}

/// Where a matrix' elements stand: how far apart panels are, columns in them, blocks of as many rows, and rows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Layout {
    pub panel: u32,
    pub column: u32,
    pub block: u32,
    pub row: u32,
}

impl Layout {
    fn at(&self, row: usize, column: usize) -> usize {
        let of_column = column / PANEL * self.panel as usize + column % PANEL * self.column as usize;
        of_column + row / PANEL * self.block as usize + row % PANEL * self.row as usize
    }
}

/// `to = scale * from + shift * I`, from one layout to another, and with zeros where `to` is larger or it comes out nearer
/// to zero than `least`.
#[repr(C)]
pub struct Arrange {
    pub scale: f64,
    pub shift: f64,
    pub least: f64,
    pub from: *const f32,
    pub to: *mut f32,
    pub from_laid: Layout,
    pub to_laid: Layout,
    pub from_rows: u32,
    pub from_columns: u32,
    pub rows: u32,
    pub columns: u32,
    pub piece: u32,
}

/// Arranges the pieces that begin in `begin..end`: panels of `to`.
///
/// # Safety
/// The pointers are valid for as much as is said.
#[inline(always)]
pub unsafe fn arrange(arrange: &Arrange, begin: usize, end: usize) {
    let [scale, shift, least] = [arrange.scale, arrange.shift, arrange.least].map(|x| x as f32);
    for panel in pieces(arrange.piece, begin, end) {
        let start = panel * PANEL;
        for row in 0..arrange.rows as usize {
            for column in start..(arrange.columns as usize).min(start + PANEL) {
                let inside = row < arrange.from_rows as usize && column < arrange.from_columns as usize;
                unsafe {
                    let mut x = 0.0;
                    if inside {
                        x = scale * *arrange.from.add(arrange.from_laid.at(row, column));
                        if row == column {
                            x += shift;
                        }
                        if x.abs() < least {
                            x = 0.0;
                        }
                    }
                    *arrange.to.add(arrange.to_laid.at(row, column)) = x;
                }
            }
        }
    }
}
