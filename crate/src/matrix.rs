//! Matrix products, and the layout of matrices that they read.
//!
//! The matrices of a product are in panels: [`PANEL`] columns, row by row, one panel after the other. Both dimensions
//! are padded with zeros to multiples of `PANEL`. A product then reads both its sides in the order of memory, and the
//! next product can read its result.
//!
//! Threads share an operation in pieces. A call does the pieces that begin in `begin..end`, where each is `piece` long.
//! An operation along a long dimension runs slice by slice, so that no piece takes long. The slices depend on the shape
//! only, and so do the bits.

use core::{array::from_fn, ops::Range};

use crate::f32x4::{F32x4, LANES};

/// Columns of a panel.
pub const PANEL: usize = 8;

/// Vectors in a row of a panel.
pub const VECTORS: usize = PANEL / LANES;

/// The number of rows and columns of a tile. It is small enough for both sides of a product to stay in the cache.
pub const TILE: usize = 64;

/// Rows of a block: a product keeps these, times the columns of a panel, in registers.
const BLOCK_ROWS: usize = 4;

/// The arguments of [`multiply`]: `out = alpha * transpose(left) * right + beta * addend`. Every matrix is in panels.
#[repr(C)]
pub struct Product {
    pub alpha: f64,
    pub beta: f64,
    /// Results with a magnitude below this are zero.
    pub least: f64,
    pub left: *const f32,
    pub right: *const f32,
    /// Null if there is none.
    pub addend: *const f32,
    pub out: *mut f32,
    /// The sums between slices. It may be `out`, unless that is `addend`.
    pub partial: *mut f32,
    /// Rows of `left` and `right`.
    pub depth: u32,
    /// Rows and columns of `out`.
    pub rows: u32,
    pub columns: u32,
    /// Whether `out` is symmetric. Then tiles below the diagonal are copies of those above, and not computed.
    pub symmetric: u32,
    /// Rows of `left` and `right` in a slice.
    pub slice_len: u32,
    /// The length of a piece; see [`pieces`].
    pub piece: u32,
    /// The index of the slice.
    pub slice: u32,
}

/// The indices in a slice of a dimension.
#[inline(always)]
pub fn slice_range(slice: u32, slice_len: u32, len: usize) -> Range<usize> {
    let [slice, slice_len] = [slice, slice_len].map(|count| count as usize);
    slice * slice_len..len.min((slice + 1) * slice_len)
}

/// Computes the pieces of a slice of a product that begin in `begin..end`. An element is summed from the first row of
/// the slice to the last, and then added to the sum of the slices before. The rounding error of a single long sum
/// would grow with the depth.
///
/// # Safety
/// - The dimensions are multiples of [`PANEL`].
/// - The pointers are valid for the elements of their matrices.
/// - `out` overlaps neither `left` nor `right`. It may be `addend`.
/// - A symmetric `out` has as many rows as columns.
#[inline(always)]
pub unsafe fn multiply<V: F32x4>(product: &Product, begin: usize, end: usize) {
    let Product {
        alpha, beta, least, left, right, addend, out, partial, depth, rows, columns, symmetric, piece, ..
    } = *product;
    let [depth, rows, columns] = [depth, rows, columns].map(|count| count as usize);
    let symmetric = symmetric != 0;
    let slice = slice_range(product.slice, product.slice_len, depth);
    let (is_first, is_last) = (slice.start == 0, slice.end == depth);
    let [alpha, beta, least] = [alpha, beta, least].map(V::splat);
    // Tiles are numbered down one column of tiles after the other; in a symmetric matrix, down to the diagonal.
    let tiles_down = rows.div_ceil(TILE).max(1);
    for index in pieces(piece, begin, end) {
        let (mut top, mut start) = if symmetric { (index, 0) } else { (index % tiles_down, index / tiles_down) };
        while symmetric && top > start {
            start += 1;
            top -= start;
        }
        let [top, start] = [top, start].map(|tile| tile * TILE);
        let (bottom, stop) = (rows.min(top + TILE), columns.min(start + TILE));
        let mut column = start;
        while column < stop {
            let right = unsafe { right.add(column * depth + slice.start * PANEL) };
            let mut row = top;
            while row < bottom {
                unsafe {
                    let left = left.add((row / PANEL * depth + slice.start) * PANEL + row % PANEL);
                    let at = |i: usize| column * rows + row * PANEL + i * LANES;
                    for (i, sum) in multiply_block::<V>(left, right, slice.len()).into_iter().enumerate() {
                        let sum = if is_first { sum } else { V::load(partial.add(at(i))) + sum };
                        if !is_last {
                            sum.store(partial.add(at(i)));
                            continue;
                        }
                        let mut sum = alpha * sum;
                        if !addend.is_null() {
                            sum = sum + beta * V::load(addend.add(at(i)));
                        }
                        sum.zero_below(least).store(out.add(at(i)));
                    }
                }
                row += BLOCK_ROWS;
            }
            column += PANEL;
        }
        if is_last && symmetric && top != start {
            unsafe { mirror(out, rows, top..bottom, start..stop) };
        }
    }
}

/// Copies a part of a square matrix in panels to its place in the transpose.
#[inline(always)]
unsafe fn mirror(matrix: *mut f32, size: usize, rows: Range<usize>, columns: Range<usize>) {
    for column in columns {
        for row in rows.clone() {
            unsafe { *matrix.add(offset(size, column, row)) = *matrix.add(offset(size, row, column)) };
        }
    }
}

/// The offset of an element in a matrix of `rows` rows in panels.
pub fn offset(rows: usize, row: usize, column: usize) -> usize {
    column / PANEL * PANEL * rows + row * PANEL + column % PANEL
}

/// The pieces that begin in `begin..end`, where each is `piece` long.
#[inline(always)]
pub fn pieces(piece: u32, begin: usize, end: usize) -> Range<usize> {
    let piece = (piece as usize).max(1);
    begin.div_ceil(piece)..end.div_ceil(piece)
}

/// Returns the sums of `depth` terms for [`BLOCK_ROWS`] rows of a panel of a product.
#[inline(always)]
unsafe fn multiply_block<V: F32x4>(left: *const f32, right: *const f32, depth: usize) -> [V; BLOCK_ROWS * VECTORS] {
    let mut sums = [V::splat(0.0); BLOCK_ROWS * VECTORS];
    let mut at = 0;
    while at < depth * PANEL {
        unsafe {
            let of_right: [V; VECTORS] = from_fn(|vector| V::load(right.add(at + vector * LANES)));
            for row in 0..BLOCK_ROWS {
                let of_left = V::splat(f64::from(*left.add(at + row)));
                for vector in 0..VECTORS {
                    let sum = &mut sums[row * VECTORS + vector];
                    *sum = *sum + of_left * of_right[vector];
                }
            }
        }
        at += PANEL;
    }
    sums
}

/// Distances in memory between the elements of a matrix, in elements: from one panel to the next, from column to column
/// in a panel, from one block of [`PANEL`] rows to the next, and from row to row in a block.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Layout {
    pub panel: u32,
    pub column: u32,
    pub block: u32,
    pub row: u32,
}

impl Layout {
    fn offset(&self, row: usize, column: usize) -> usize {
        let of_column = column / PANEL * self.panel as usize + column % PANEL * self.column as usize;
        of_column + row / PANEL * self.block as usize + row % PANEL * self.row as usize
    }
}

/// The arguments of [`arrange`]: `to = scale * from + shift * I`, from one layout to another.
#[repr(C)]
pub struct Arrange {
    pub scale: f64,
    pub shift: f64,
    /// Results with a magnitude below this are zero.
    pub least: f64,
    pub from: *const f32,
    pub to: *mut f32,
    pub from_layout: Layout,
    pub to_layout: Layout,
    pub from_rows: u32,
    pub from_columns: u32,
    /// Rows and columns of `to`, which is zero where it is larger than `from`.
    pub rows: u32,
    pub columns: u32,
    /// The length of a piece; see [`pieces`].
    pub piece: u32,
}

/// Rows of a piece of [`arrange`].
const ARRANGED_ROWS: usize = 4096;

/// Copies a matrix to another layout: the pieces that begin in `begin..end`, each [`ARRANGED_ROWS`] rows of a panel of
/// `to`.
///
/// # Safety
/// - `from` is valid for `from_rows` rows and `from_columns` columns in its layout.
/// - `to` is valid for `rows` rows and `columns` columns in its layout, and does not overlap `from`.
#[inline(always)]
pub unsafe fn arrange(arrange: &Arrange, begin: usize, end: usize) {
    let [scale, shift, least] = [arrange.scale, arrange.shift, arrange.least].map(|x| x as f32);
    let rows = arrange.rows as usize;
    let pieces_down = rows.div_ceil(ARRANGED_ROWS).max(1);
    for piece in pieces(arrange.piece, begin, end) {
        let [start, top] = [piece / pieces_down * PANEL, piece % pieces_down * ARRANGED_ROWS];
        for row in top..rows.min(top + ARRANGED_ROWS) {
            for column in start..(arrange.columns as usize).min(start + PANEL) {
                let inside = row < arrange.from_rows as usize && column < arrange.from_columns as usize;
                unsafe {
                    let mut x = 0.0;
                    if inside {
                        x = scale * *arrange.from.add(arrange.from_layout.offset(row, column));
                        if row == column {
                            x += shift;
                        }
                        if x.abs() < least {
                            x = 0.0;
                        }
                    }
                    *arrange.to.add(arrange.to_layout.offset(row, column)) = x;
                }
            }
        }
    }
}
