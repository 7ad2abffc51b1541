//! The functions that the binary exports: the kernels of every rule, and the kernels for vectors and matrices.

#![allow(unsafe_op_in_unsafe_fn)] // `wasm_bindgen` generates code that needs it

use crate::{
    clip::{self, Units},
    f32x4::Simd,
    factored::{self, Reduction},
    kernels,
    matrix::{self, Arrange, Product},
    qr::{self, Reflect},
    rule::{self, Segment, measure, run},
    sort::{self, ColumnOrder},
    vector,
};
use wasm_bindgen::prelude::*;

macro_rules! export_rules {
    ($($name:ident: $rule:ty, $slots:literal $(, by $measure:ident: $sums:literal)?;)*) => {
        $(
            /// # Safety
            /// The obligations of [`run`]. `hyper` is valid.
            #[wasm_bindgen]
            pub unsafe fn $name(hyper: *const $rule, segment: *const Segment<$slots>, begin: usize, end: usize) {
                unsafe { run::<Simd, $rule, $slots>(&*hyper, &*segment, begin, end) }
            }

            $(
                /// # Safety
                /// The obligations of [`measure`]. `hyper` and `sums` are valid.
                #[wasm_bindgen]
                pub unsafe fn $measure(hyper: *const $rule, segment: *const Segment<$slots>, begin: usize, end: usize, sums: *mut f64) {
                    unsafe { measure::<Simd, $rule, $slots, $sums>(&*hyper, &*segment, begin, end, &mut *sums.cast()) }
                }
            )?
        )*

        /// A line for each kernel: its name, slots, sums, and the fields of its hyper-parameters.
        const METADATA: &str = constcat::concat!(
            $(stringify!($name), " ", stringify!($slots), $(" by ", stringify!($sums),)? " ", <$rule>::FIELDS, "\n"),*
        );
    };
}
kernels!(export_rules);

/// The metadata as a section of the binary. scripts/kernels.mjs moves it to test/kernels.txt.
#[unsafe(link_section = "downhill")]
pub static METADATA_SECTION: [u8; METADATA.len()] = unsafe { *METADATA.as_ptr().cast() };

/// Exports [`rule::average`].
///
/// # Safety
/// The obligations of the exported function. `segment` is valid.
#[wasm_bindgen]
pub unsafe fn average(_: usize, segment: *const Segment<0>, begin: usize, end: usize) {
    unsafe { rule::average::<Simd>(&*segment, begin, end) }
}

/// Exports [`vector::combine`].
///
/// # Safety
/// The obligations of the exported function. All arguments are valid: `weights` for two numbers.
#[wasm_bindgen]
pub unsafe fn combine(weights: *const f64, segment: *const Segment<1>, begin: usize, end: usize) {
    unsafe { vector::combine::<Simd>(*weights.cast(), &*segment, begin, end) }
}

/// Exports functions that write the sums of a segment.
macro_rules! export_sums {
    ($($module:ident::$name:ident;)*) => {$(
        #[doc = concat!("Exports [`", stringify!($module), "::", stringify!($name), "`].")]
        ///
        /// # Safety
        /// The obligations of the exported function. All arguments are valid.
        #[wasm_bindgen]
        pub unsafe fn $name(_: usize, segment: *const Segment<0>, begin: usize, end: usize, sums: *mut f64) {
            unsafe { $module::$name::<Simd>(&*segment, begin, end, &mut *sums.cast()) }
        }
    )*};
}
export_sums! { vector::add_squares; vector::dot; vector::magnitude; }

/// Exports functions of their own arguments and a segment.
macro_rules! export_with_segment {
    ($($module:ident::$name:ident($arguments:ty);)*) => {$(
        #[doc = concat!("Exports [`", stringify!($module), "::", stringify!($name), "`].")]
        ///
        /// # Safety
        /// The obligations of the exported function. All arguments are valid.
        #[wasm_bindgen]
        pub unsafe fn $name(arguments: *const $arguments, segment: *const Segment<0>, begin: usize, end: usize) {
            unsafe { $module::$name::<Simd>(&*arguments, &*segment, begin, end) }
        }
    )*};
}
export_with_segment! {
    clip::clip_units(Units);
    clip::sum_units(Units);
    factored::average_rows(Reduction);
    factored::average_columns(Reduction);
    factored::cover_rows(Reduction);
    factored::cover_columns(Reduction);
}

/// Exports functions of their own arguments only.
macro_rules! export_operations {
    ($($module:ident::$name:ident $(::<$vector:ty>)? ($arguments:ty);)*) => {$(
        #[doc = concat!("Exports [`", stringify!($module), "::", stringify!($name), "`].")]
        ///
        /// # Safety
        /// The obligations of the exported function. All arguments are valid.
        #[wasm_bindgen]
        pub unsafe fn $name(arguments: *const $arguments, _: usize, begin: usize, end: usize) {
            unsafe { $module::$name$(::<$vector>)?(&*arguments, begin, end) }
        }
    )*};
}
export_operations! {
    matrix::multiply::<Simd>(Product);
    matrix::arrange(Arrange);
    factored::invert_means(Reduction);
    factored::divide_rows(Reduction);
    qr::find_reflections::<Simd>(Reflect);
    qr::reflect::<Simd>(Reflect);
    sort::column_dots(ColumnOrder);
    sort::rank(ColumnOrder);
    sort::reorder(ColumnOrder);
    soap::adapt::<Simd>(soap::Adapt);
}

/// wasm-bindgen links against an allocator; no kernel calls it.
mod no_heap {
    extern crate alloc;
    use alloc::alloc::{GlobalAlloc, Layout};

    struct NoHeap;
    unsafe impl GlobalAlloc for NoHeap {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            core::ptr::null_mut()
        }
        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }
    #[global_allocator]
    static NO_HEAP: NoHeap = NoHeap;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
