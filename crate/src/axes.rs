//! Numbers that a matrix' rows and columns have in place of its elements: gathered from gradients, and given out again.

use core::array::from_fn;

use crate::{
    lane::{Lane, WIDTH},
    matrix::pieces,
    rule::{MIN_NORMAL_F32, Segment, gradient_of},
};

/// Rows or columns of a piece.
const LINES: usize = 64;

/// What is gathered of matrices that stand one behind the other, row by row.
#[repr(C)]
pub struct Axes {
    /// How much of what comes an average takes in; or what is divided by at least.
    pub share: f64,
    /// A number for each row of each matrix, and for each column.
    pub of_rows: *const f32,
    pub of_columns: *const f32,
    pub into: *mut f32,
    pub matrices: u32,
    pub rows: u32,
    pub columns: u32,
    pub piece: u32,
}

impl Axes {
    fn shape(&self) -> [usize; 3] {
        [self.matrices as usize, self.rows as usize, self.columns as usize]
    }

    /// The rows of all matrices in the pieces of `begin..end`.
    #[inline(always)]
    fn rows_in(&self, begin: usize, end: usize) -> core::ops::Range<usize> {
        let [matrices, rows, _] = self.shape();
        let pieces = pieces(self.piece, begin, end);
        pieces.start * LINES..(pieces.end * LINES).min(matrices * rows)
    }

    /// Calls `each` with the columns in the pieces of `begin..end`, which do not go beyond a matrix: the matrix, the first
    /// column, and whether it is but one or a lane.
    #[inline(always)]
    fn columns_in(&self, begin: usize, end: usize, mut each: impl FnMut(usize, usize, bool)) {
        let [_, _, columns] = self.shape();
        let across = columns.div_ceil(LINES).max(1);
        for piece in pieces(self.piece, begin, end) {
            let start = piece % across * LINES;
            let stop = columns.min(start + LINES);
            lanes(stop - start, |at, one| each(piece / across, start + at, one));
        }
    }
}

/// Calls `each` with the beginnings of `count` elements' lanes, and then with those elements that fill none.
#[inline(always)]
pub fn lanes(count: usize, mut each: impl FnMut(usize, bool)) {
    let mut at = 0;
    while at + WIDTH <= count {
        each(at, false);
        at += WIDTH;
    }
    while at < count {
        each(at, true);
        at += 1;
    }
}

/// # Safety
/// The lane, or the one element, is readable.
#[inline(always)]
pub unsafe fn get<V: Lane>(at: *const f32, one: bool) -> V {
    unsafe { if one { V::load_one(at) } else { V::load(at) } }
}

/// # Safety
/// The lane, or the one element, is writable.
#[inline(always)]
pub unsafe fn put<V: Lane>(x: V, at: *mut f32, one: bool) {
    unsafe { if one { x.store_one(at) } else { x.store(at) } }
}

/// Has each row's number, an average, take in the mean of the squares of the row's gradients.
///
/// # Safety
/// What the axes and the segment say is valid.
#[inline(always)]
pub unsafe fn average_rows<V: Lane>(axes: &Axes, segment: &Segment<0>, begin: usize, end: usize) {
    let [_, _, columns] = axes.shape();
    let gradient = gradient_of::<V>(segment);
    for row in axes.rows_in(begin, end) {
        let mut sums = V::NO_SUMS;
        lanes(columns, |at, one| {
            let g = gradient(unsafe { get(segment.grads.add(row * columns + at), one) });
            sums = g.add_products(g, sums);
        });
        let mean = V::splat(V::total(sums) / columns as f64);
        unsafe { take_in(mean, axes.share, axes.into.add(row), true) }
    }
}

/// Has each column's number, an average, take in the mean of the squares of the column's gradients.
///
/// # Safety
/// What the axes and the segment say is valid.
#[inline(always)]
pub unsafe fn average_columns<V: Lane>(axes: &Axes, segment: &Segment<0>, begin: usize, end: usize) {
    let [_, rows, columns] = axes.shape();
    let gradient = gradient_of::<V>(segment);
    axes.columns_in(begin, end, |matrix, column, one| {
        let mut sums = V::NO_SUMS;
        for row in matrix * rows..(matrix + 1) * rows {
            let g = gradient(unsafe { get(segment.grads.add(row * columns + column), one) });
            sums = g.add_products(g, sums);
        }
        let mean = V::rounded(sums) * V::splat(1.0 / rows as f64);
        unsafe { take_in(mean, axes.share, axes.into.add(matrix * columns + column), one) }
    });
}

#[inline(always)]
unsafe fn take_in<V: Lane>(mean: V, share: f64, at: *mut f32, one: bool) {
    unsafe {
        let old = get::<V>(at, one);
        put((old + V::splat(share) * (mean - old)).zero_below(V::splat(MIN_NORMAL_F32)), at, one);
    }
}

/// Divides each row's number by the mean of its matrix', or by `share` if that is more.
///
/// # Safety
/// What the axes say is valid.
#[inline(always)]
pub unsafe fn divide_rows(axes: &Axes, begin: usize, end: usize) {
    let [_, rows, _] = axes.shape();
    for matrix in pieces(axes.piece, begin, end) {
        let all = matrix * rows..(matrix + 1) * rows;
        let sum = all.clone().map(|row| f64::from(unsafe { *axes.of_rows.add(row) })).sum::<f64>();
        let mean = sum / rows as f64;
        let inverse = 1.0 / if mean < axes.share { axes.share } else { mean };
        for row in all {
            unsafe { *axes.into.add(row) = (f64::from(*axes.of_rows.add(row)) * inverse) as f32 };
        }
    }
}

/// What SM3 makes of a gradient and of the numbers that its row and its column have.
#[inline(always)]
pub fn covered<V: Lane>(g: V, row: V, column: V) -> V {
    g * g + row.min(column)
}

/// Finds for each row of a matrix the largest of what is [`covered`].
///
/// # Safety
/// What the axes and the segment say is valid.
#[inline(always)]
pub unsafe fn cover_rows<V: Lane>(axes: &Axes, segment: &Segment<0>, begin: usize, end: usize) {
    let [_, _, columns] = axes.shape();
    let gradient = gradient_of::<V>(segment);
    for row in axes.rows_in(begin, end) {
        let mut most = V::splat(0.0);
        lanes(columns, |at, one| unsafe {
            let g = gradient(get(segment.grads.add(row * columns + at), one));
            let of_row = V::splat(f64::from(*axes.of_rows.add(row)));
            most = covered(g, of_row, get(axes.of_columns.add(at), one)).max(most);
        });
        unsafe { *axes.into.add(row) = most.largest() };
    }
}

/// The same for each column.
///
/// # Safety
/// What the axes and the segment say is valid.
#[inline(always)]
pub unsafe fn cover_columns<V: Lane>(axes: &Axes, segment: &Segment<0>, begin: usize, end: usize) {
    let [_, rows, columns] = axes.shape();
    let gradient = gradient_of::<V>(segment);
    axes.columns_in(begin, end, |_, column, one| unsafe {
        let of_column = get(axes.of_columns.add(column), one);
        let mut most = V::splat(0.0);
        for row in 0..rows {
            let g = gradient(get(segment.grads.add(row * columns + column), one));
            most = covered(g, V::splat(f64::from(*axes.of_rows.add(row))), of_column).max(most);
        }
        put(most, axes.into.add(column), one);
    });
}

/// Where an element's row and column have their numbers: in matrices, one behind the other.
#[derive(Clone, Copy)]
pub struct Grid {
    /// One over how many rows a matrix has, and columns.
    of_rows: f64,
    of_columns: f64,
    columns: usize,
    /// Elements of all matrices.
    size: usize,
}

impl Grid {
    pub fn new(rows: f64, columns: f64, size: f64) -> Self {
        Self { of_rows: 1.0 / rows, of_columns: 1.0 / columns, columns: columns as usize, size: size as usize }
    }

    /// Where an element's row has its number, and its column, and the element's place in its row.
    #[inline(always)]
    fn place(self, index: usize) -> [usize; 3] {
        // Division of whole numbers takes several times as long; half a unit keeps this as exact.
        let row = ((f64::from(index as i32) + 0.5) * self.of_columns) as i32;
        let matrix = ((f64::from(row) + 0.5) * self.of_rows) as i32 as usize;
        let row = row as usize;
        [row, index - (row - matrix) * self.columns, index - row * self.columns]
    }

    /// The numbers of the rows and of the columns of a lane of elements; those of padding are some elements'.
    ///
    /// # Safety
    /// The numbers are valid for the elements.
    #[inline(always)]
    pub unsafe fn load<V: Lane>(self, of_rows: *const f32, of_columns: *const f32, index: usize) -> [V; 2] {
        let [row, column, in_row] = self.place(index);
        if index + WIDTH <= self.size && in_row + WIDTH <= self.columns {
            return unsafe { [V::splat(f64::from(*of_rows.add(row))), V::load(of_columns.add(column))] };
        }
        let last = self.size.max(1) - 1;
        let at: [_; WIDTH] = from_fn(|lane| self.place((index + lane).min(last)));
        unsafe { [V::from_fn(|lane| *of_rows.add(at[lane][0])), V::from_fn(|lane| *of_columns.add(at[lane][1]))] }
    }
}
