//! The matrix kernels over scalars, compiled for this machine, give the published bits of the WebAssembly kernels.

use downhill::{
    f32x4::Scalar,
    factored::*,
    matrix::*,
    qr::*,
    rule::Segment,
    rules::soap::{Adapt, adapt},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Published {
    length: usize,
    #[serde(rename = "gradScale")]
    grad_scale: f64,
    clip: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kernel: String,
    amounts: Vec<f64>,
    /// The index in the numbers at which each matrix begins.
    places: Vec<usize>,
    counts: Vec<u32>,
    pieces: usize,
    hash: String,
}

/// Pseudo-random numbers in [-1, 1), the same as in test/harness.ts.
fn numbers(length: usize) -> Vec<f32> {
    let mut x = 1i32;
    let next = |_| {
        x ^= x << 13;
        x ^= (x as u32 >> 17) as i32;
        x ^= x << 5;
        (f64::from(x) / 2f64.powi(31)) as f32
    };
    (0..length).map(next).collect()
}

#[test]
fn every_matrix_kernel_gives_the_published_bits() {
    let Published { length, grad_scale, clip, cases } =
        serde_json::from_str(include_str!("../../test/matrix.json")).unwrap();
    for Case { kernel, amounts, places, counts, pieces, hash } in cases {
        let mut all = numbers(length);
        all.resize(60_000, 0.0); // room for partial sums
        let base = all.as_mut_ptr();
        let at = |i: usize| unsafe { base.add(places[i]) };
        let (amounts, c) = (|i: usize| amounts[i], |i: usize| counts[i]);
        let segment = Segment::<0> {
            step: 1.0,
            grad_scale,
            clip,
            blend: 0.0,
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            params: base,
            grads: base,
            averages: std::ptr::null_mut(),
            zero_grad: 0,
            bounded: 0,
            in_streams: 0,
            slots: [],
        };
        let reduction = || Reduction {
            weight: amounts(0),
            least_mean: amounts(1),
            row_stats: at(0),
            column_stats: at(1),
            out: at(2),
            partial: at(3).cast(),
            matrices: c(0),
            rows: c(1),
            columns: c(2),
            slice_len: c(3),
            piece: 1,
            slice: 0,
        };
        let reflections = || Reflect {
            reflectors: at(0),
            target: at(1),
            rows: c(0),
            panel: c(1),
            first: c(2),
            reverse: c(3),
            piece: 1,
        };
        unsafe {
            match kernel.as_str() {
                "multiply" => multiply::<Scalar>(
                    &Product {
                        alpha: amounts(0),
                        beta: amounts(1),
                        least: amounts(2),
                        left: at(0),
                        right: at(1),
                        addend: at(2),
                        out: at(3),
                        partial: at(4),
                        depth: c(0),
                        rows: c(1),
                        columns: c(2),
                        symmetric: c(3),
                        slice_len: c(4),
                        piece: 1,
                        slice: 0,
                    },
                    0,
                    pieces,
                ),
                "average_rows" => average_rows::<Scalar>(&reduction(), &segment, 0, pieces),
                "average_columns" => average_columns::<Scalar>(&reduction(), &segment, 0, pieces),
                "cover_rows" => cover_rows::<Scalar>(&reduction(), &segment, 0, pieces),
                "cover_columns" => cover_columns::<Scalar>(&reduction(), &segment, 0, pieces),
                "invert_means" => invert_means(&reduction(), 0, pieces),
                "divide_rows" => divide_rows(&reduction(), 0, pieces),
                "find_reflections" => find_reflections::<Scalar>(&reflections(), 0, pieces),
                "reflect" => reflect::<Scalar>(&reflections(), 0, pieces),
                "adapt" => adapt::<Scalar>(
                    &Adapt {
                        beta: amounts(0),
                        eps: amounts(1),
                        grads: at(0),
                        squares: at(1),
                        averages: at(2),
                        size: c(0),
                        piece: 1,
                    },
                    0,
                    pieces,
                ),
                other => panic!("no kernel {other}"),
            }
        }
        let mut sum = Sha256::new();
        all[..length].iter().for_each(|x| sum.update((if x.is_nan() { f32::NAN } else { *x }).to_le_bytes()));
        assert_eq!(format!("{:x}", sum.finalize()), hash, "{kernel}");
    }
}
