//! Row and column statistics of matrices, which some rules keep instead of state for each element: Adafactor's factored
//! second moment, and SM3's accumulators. Kernels reduce gradients to them, and [`Grid`] finds those of an element.

use core::array::from_fn;

use crate::{
    f32x4::{F32x4, LANES, for_each_vector, load_vector, store_vector},
    matrix::{TILE, pieces, slice_range},
    rule::{Segment, clipped_gradient},
    scalar::MIN_NORMAL_F32,
};

/// The arguments of a kernel that reduces rows or columns. The matrices are adjacent in memory, each row by row, and
/// pieces are [`TILE`] rows or columns long.
#[repr(C)]
pub struct Reduction {
    /// The weight of a new mean in its average, from 0 to 1.
    pub weight: f64,
    /// The least mean in [`invert_means`].
    pub least_mean: f64,
    /// A statistic for each row of each matrix.
    pub row_stats: *const f32,
    /// A statistic for each column of each matrix.
    pub column_stats: *const f32,
    /// The statistics that the kernel writes: one per row, or one per column.
    pub out: *mut f32,
    /// The sums between slices, four doubles for each row or column. [`invert_means`] writes one inverse mean per
    /// matrix here, and [`divide_rows`] reads them.
    pub partial: *mut f64,
    pub matrices: u32,
    pub rows: u32,
    pub columns: u32,
    /// The length of a slice of the dimension that is reduced: a multiple of [`LANES`].
    pub slice_len: u32,
    /// The length of a piece; see [`pieces`].
    pub piece: u32,
    /// The index of the slice.
    pub slice: u32,
}

impl Reduction {
    fn shape(&self) -> [usize; 3] {
        [self.matrices as usize, self.rows as usize, self.columns as usize]
    }

    /// The indices in the slice, of a dimension of length `len`.
    #[inline(always)]
    fn slice_of(&self, len: usize) -> core::ops::Range<usize> {
        slice_range(self.slice, self.slice_len, len)
    }

    /// The sums of a row or column over the slices before this one, given its index among those of all matrices.
    #[inline(always)]
    unsafe fn sums_before<V: F32x4>(&self, index: usize) -> V::Sums {
        if self.slice == 0 { V::NO_SUMS } else { unsafe { V::load_sums(self.partial.add(LANES * index)) } }
    }

    /// Keeps the sums of a row or column for the next slice.
    #[inline(always)]
    unsafe fn keep_sums<V: F32x4>(&self, index: usize, sums: V::Sums) {
        unsafe { V::store_sums(sums, self.partial.add(LANES * index)) }
    }

    /// The rows, of all matrices, in the pieces that begin in `begin..end`.
    #[inline(always)]
    fn rows_in(&self, begin: usize, end: usize) -> core::ops::Range<usize> {
        let [matrices, rows, _] = self.shape();
        let pieces = pieces(self.piece, begin, end);
        pieces.start * TILE..(pieces.end * TILE).min(matrices * rows)
    }

    /// Calls `each(matrix, column, single)` for the columns in the pieces that begin in `begin..end`: for a vector of
    /// columns from `column` on, or for that column if `single`. A piece does not go beyond its matrix.
    #[inline(always)]
    fn for_columns_in(&self, begin: usize, end: usize, mut each: impl FnMut(usize, usize, bool)) {
        let [_, _, columns] = self.shape();
        let pieces_across = columns.div_ceil(TILE).max(1);
        for piece in pieces(self.piece, begin, end) {
            let start = piece % pieces_across * TILE;
            let stop = columns.min(start + TILE);
            for_each_vector(stop - start, |i, single| each(piece / pieces_across, start + i, single));
        }
    }
}

/// Updates the average of each row with the mean of the squares of the row's gradients.
///
/// # Safety
/// - The gradients in `segment` are valid for the elements of all matrices.
/// - `out` in `reduction` is valid for the rows of all matrices.
#[inline(always)]
pub unsafe fn average_rows<V: F32x4>(reduction: &Reduction, segment: &Segment<0>, begin: usize, end: usize) {
    let [_, _, columns] = reduction.shape();
    let gradient = clipped_gradient::<V>(segment);
    let slice = reduction.slice_of(columns);
    for row in reduction.rows_in(begin, end) {
        let grads = unsafe { segment.grads.add(row * columns + slice.start) };
        let mut sums = unsafe { reduction.sums_before::<V>(row) };
        for_each_vector(slice.len(), |i, single| {
            let g = gradient(unsafe { load_vector(grads.add(i), single) });
            sums = g.add_products(g, sums);
        });
        if slice.end < columns {
            unsafe { reduction.keep_sums::<V>(row, sums) };
            continue;
        }
        let mean = V::splat(V::total(sums) / columns as f64);
        unsafe { update_average(mean, reduction.weight, reduction.out.add(row), true) }
    }
}

/// Updates the average of each column with the mean of the squares of the column's gradients.
///
/// # Safety
/// - The gradients in `segment` are valid for the elements of all matrices.
/// - `out` in `reduction` is valid for the columns of all matrices.
#[inline(always)]
pub unsafe fn average_columns<V: F32x4>(reduction: &Reduction, segment: &Segment<0>, begin: usize, end: usize) {
    let [_, rows, columns] = reduction.shape();
    let gradient = clipped_gradient::<V>(segment);
    let slice = reduction.slice_of(rows);
    reduction.for_columns_in(begin, end, |matrix, column, single| {
        let index = matrix * columns + column;
        let mut sums = unsafe { reduction.sums_before::<V>(index) };
        for row in slice.clone() {
            let at = (matrix * rows + row) * columns + column;
            let g = gradient(unsafe { load_vector(segment.grads.add(at), single) });
            sums = g.add_products(g, sums);
        }
        if slice.end < rows {
            unsafe { reduction.keep_sums::<V>(index, sums) };
            return;
        }
        let mean = V::rounded(1.0 / rows as f64, sums);
        unsafe { update_average(mean, reduction.weight, reduction.out.add(index), single) }
    });
}

#[inline(always)]
unsafe fn update_average<V: F32x4>(mean: V, weight: f64, at: *mut f32, single: bool) {
    unsafe {
        let average = load_vector::<V>(at, single);
        // Each form is exact at its end, 0 or 1. This is PyTorch's `lerp`.
        let next = if weight < 0.5 {
            average + V::splat(weight) * (mean - average)
        } else {
            mean - V::splat(1.0 - weight) * (mean - average)
        };
        store_vector(next.zero_below(V::splat(MIN_NORMAL_F32)), at, single);
    }
}

/// Writes `1 / max(mean, least_mean)` to `partial` for each matrix. `mean` is the mean of the statistics of its rows.
/// Pieces are matrices.
///
/// # Safety
/// `row_stats` in `reduction` is valid for the rows of all matrices, and `partial` for the matrices.
#[inline(always)]
pub unsafe fn invert_means(reduction: &Reduction, begin: usize, end: usize) {
    let [_, rows, _] = reduction.shape();
    let least = reduction.least_mean.max(MIN_NORMAL_F32); // zero divided by zero would be NaN
    let slice = reduction.slice_of(rows);
    for matrix in pieces(reduction.piece, begin, end) {
        let partial = reduction.partial.wrapping_add(matrix);
        let mut sum = if slice.start == 0 { 0.0 } else { unsafe { *partial } };
        for row in slice.clone() {
            sum += f64::from(unsafe { *reduction.row_stats.add(matrix * rows + row) });
        }
        if slice.end == rows {
            let mean = sum / rows as f64;
            let mean = if mean < least { least } else { mean };
            sum = 1.0 / mean + 0.0 * mean; // NaN if the mean is infinite, because its rows are unknown then
        }
        unsafe { *partial = sum };
    }
}

/// Multiplies the statistic of each row by the inverse mean of its matrix, which [`invert_means`] wrote to `partial`.
///
/// # Safety
/// `row_stats` and `out` in `reduction` are valid for the rows of all matrices, and `partial` for the matrices.
#[inline(always)]
pub unsafe fn divide_rows(reduction: &Reduction, begin: usize, end: usize) {
    let [_, rows, _] = reduction.shape();
    for row in reduction.rows_in(begin, end) {
        unsafe {
            let inverse = *reduction.partial.add(row / rows.max(1));
            *reduction.out.add(row) = (f64::from(*reduction.row_stats.add(row)) * inverse) as f32;
        }
    }
}

/// SM3's accumulator of an element (`ν` in the paper): the square of its gradient plus the smaller statistic of its row
/// and its column, which cover the element.
#[inline(always)]
pub fn accumulator<V: F32x4>(g: V, row: V, column: V) -> V {
    g * g + row.min(column)
}

/// Finds the largest [`accumulator`] of each row of a matrix.
///
/// # Safety
/// - The gradients in `segment` are valid for the elements of the matrix.
/// - `row_stats` and `out` in `reduction` are valid for its rows, `column_stats` for its columns.
#[inline(always)]
pub unsafe fn cover_rows<V: F32x4>(reduction: &Reduction, segment: &Segment<0>, begin: usize, end: usize) {
    let [_, _, columns] = reduction.shape();
    let gradient = clipped_gradient::<V>(segment);
    let slice = reduction.slice_of(columns);
    for row in reduction.rows_in(begin, end) {
        let before = if slice.start == 0 { 0.0 } else { unsafe { *reduction.out.add(row) } };
        let mut largest = V::splat(f64::from(before));
        for_each_vector(slice.len(), |i, single| unsafe {
            let i = slice.start + i;
            let g = gradient(load_vector(segment.grads.add(row * columns + i), single));
            let of_row = V::splat(f64::from(*reduction.row_stats.add(row)));
            largest = accumulator(g, of_row, load_vector(reduction.column_stats.add(i), single)).max(largest);
        });
        unsafe { *reduction.out.add(row) = largest.reduce_max() };
    }
}

/// Finds the largest [`accumulator`] of each column of a matrix.
///
/// # Safety
/// - The gradients in `segment` are valid for the elements of the matrix.
/// - `row_stats` in `reduction` is valid for its rows, `column_stats` and `out` for its columns.
#[inline(always)]
pub unsafe fn cover_columns<V: F32x4>(reduction: &Reduction, segment: &Segment<0>, begin: usize, end: usize) {
    let [_, rows, columns] = reduction.shape();
    let gradient = clipped_gradient::<V>(segment);
    let slice = reduction.slice_of(rows);
    reduction.for_columns_in(begin, end, |_, column, single| unsafe {
        let of_column = load_vector(reduction.column_stats.add(column), single);
        let out = reduction.out.add(column);
        let mut largest = if slice.start == 0 { V::splat(0.0) } else { load_vector(out, single) };
        for row in slice.clone() {
            let g = gradient(load_vector(segment.grads.add(row * columns + column), single));
            let of_row = V::splat(f64::from(*reduction.row_stats.add(row)));
            largest = accumulator(g, of_row, of_column).max(largest);
        }
        store_vector(largest, out, single);
    });
}

/// The rows and columns of the elements of adjacent matrices.
#[derive(Clone, Copy)]
pub struct Grid {
    inverse_rows: f64,
    inverse_columns: f64,
    columns: usize,
    /// Elements of all matrices.
    size: usize,
}

impl Grid {
    /// A grid of matrices with `rows` and `columns` each, and `size` elements together.
    pub fn new(rows: f64, columns: f64, size: f64) -> Self {
        Self {
            inverse_rows: 1.0 / rows,
            inverse_columns: 1.0 / columns,
            columns: columns as usize,
            size: size as usize,
        }
    }

    /// The index of an element's row among all rows, of its column among all columns, and of the element in its row.
    #[inline(always)]
    fn locate(self, index: usize) -> [usize; 3] {
        // Integer division takes several times as long. The added half makes the rounded quotient exact.
        let row = ((f64::from(index as i32) + 0.5) * self.inverse_columns) as i32;
        let matrix = ((f64::from(row) + 0.5) * self.inverse_rows) as i32 as usize;
        let row = row as usize;
        [row, index - (row - matrix) * self.columns, index - row * self.columns]
    }

    /// Loads the statistics of the rows and of the columns of a vector of elements. Padding gets those of the last element.
    ///
    /// # Safety
    /// `row_stats` is valid for the rows of all matrices, and `column_stats` for their columns.
    #[inline(always)]
    pub unsafe fn load<V: F32x4>(self, row_stats: *const f32, column_stats: *const f32, index: usize) -> [V; 2] {
        let [row, column, in_row] = self.locate(index);
        if index + LANES <= self.size && in_row + LANES <= self.columns {
            return unsafe { [V::splat(f64::from(*row_stats.add(row))), V::load(column_stats.add(column))] };
        }
        let last = self.size.max(1) - 1;
        let at: [_; LANES] = from_fn(|i| self.locate((index + i).min(last)));
        unsafe { [V::from_fn(|i| *row_stats.add(at[i][0])), V::from_fn(|i| *column_stats.add(at[i][1]))] }
    }
}
