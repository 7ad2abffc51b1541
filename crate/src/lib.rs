//! Kernels: one function per rule and set of state, over whatever memory they are given. They own nothing:
//! no heap, no stack, no writable data, no atomics. TypeScript owns the memory and calls them by name.

#![cfg_attr(target_arch = "wasm32", no_std)]

pub mod axes;
pub mod basis;
pub mod lane;
pub mod math;
pub mod matrix;
pub mod rule;
pub mod rules;

/// Every kernel, as `name: hyper-parameters, slots of state`, and where it measures first, `by` what kernel and how many
/// sums; handed to the macro `$make`. A name is the rule's and then, in the order of their slots, the options that add
/// state.
#[macro_export]
macro_rules! kernels {
    ($make:ident) => {
        use $crate::rules::{
            adabelief::*, adadelta::*, adafactor::*, adagrad::*, adam::*, adamax::*, adamw::*, adan::*, ademamix::*,
            adopt::*, asgd::*, cocob::*, dadapt_adamw::*, dog::*, dowg::*, fromage::*, ftrl::*, lamb::*, lars::*,
            lion::*, madgrad::*, momentum::*, muon::*, nadam::*, noisy_sgd::*, novograd::*, optimistic_adam::*,
            prodigy::*, radam::*, rmsprop::*, rprop::*, schedule_free_adamw::*, schedule_free_sgd::*, sgd::*,
            shampoo::*, sign_sgd::*, sm3::*, soap::*, sophia::*, yogi::*,
        };

        $make! {
            sgd: Sgd, 0;
            sgd_momentum: Sgd, 1;
            momentum: Momentum, 1;
            adagrad: Adagrad, 1;
            rmsprop: Rmsprop<false>, 1;
            rmsprop_momentum: Rmsprop<false>, 2;
            rmsprop_centered: Rmsprop<true>, 2;
            rmsprop_centered_momentum: Rmsprop<true>, 3;
            adam: Adam, 2;
            adam_amsgrad: Adam, 3;
            adamw: AdamW, 2;
            adamw_amsgrad: AdamW, 3;
            sign_sgd: SignSgd, 0;
            lion: Lion, 1;
            rprop: Rprop, 2;
            adadelta: Adadelta, 2;
            adamax: Adamax, 2;
            radam: RAdam, 2;
            adabelief: AdaBelief, 2;
            yogi: Yogi, 2;
            adopt: Adopt, 2;
            ademamix: AdEMAMix, 3;
            adan: Adan, 4;
            nadam: NAdam, 2;
            asgd: Asgd, 1;
            madgrad: Madgrad, 3;
            schedule_free_sgd: ScheduleFreeSgd, 1;
            schedule_free_adamw: ScheduleFreeAdamW, 2;
            sophia: Sophia, 2;
            ftrl: Ftrl, 2;
            optimistic_adam: OptimisticAdam, 3;
            noisy_sgd: NoisySgd, 0;
            cocob: Cocob, 5;
            lamb: Lamb, 2, by lamb_measure: 2;
            lars: Lars, 1, by lars_measure: 2;
            novograd: NovoGrad, 1, by novograd_measure: 1;
            fromage: Fromage, 0, by fromage_measure: 2;
            dog: Dog, 1, by dog_measure: 3;
            dowg: Dowg, 1, by dowg_measure: 2;
            dadapt_adamw: DAdaptAdamW, 3, by dadapt_adamw_measure: 2;
            prodigy: Prodigy, 4, by prodigy_measure: 2;
            muon: Muon, 2, by muon_measure: 1;
            adafactor: Adafactor, 3, by adafactor_measure: 2;
            sm3: Sm3, 3;
            shampoo: Shampoo, 1, by shampoo_measure: 1;
            soap: Soap, 2, by soap_measure: 1;
        }
    };
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_op_in_unsafe_fn)] // in what wasm_bindgen makes of an unsafe function
pub mod exports {
    use crate::{axes::Axes, basis::*, lane::Simd, matrix::*, rule::*};
    use wasm_bindgen::prelude::*;

    macro_rules! export {
        ($($name:ident: $rule:ty, $slots:literal $(, by $measure:ident: $sums:literal)?;)*) => {
            $(
                /// # Safety
                /// `hyper` and `segment` are valid, and the segment's pointers for `end` elements.
                #[wasm_bindgen]
                pub unsafe fn $name(hyper: *const $rule, segment: *const Segment<$slots>, begin: usize, end: usize) {
                    unsafe { run::<Simd, $rule, $slots>(&*hyper, &*segment, begin, end) }
                }

                $(
                    /// # Safety
                    /// The same; and `sums` is.
                    #[wasm_bindgen]
                    pub unsafe fn $measure(hyper: *const $rule, segment: *const Segment<$slots>, begin: usize, end: usize, sums: *mut f64) {
                        unsafe { measure::<Simd, $rule, $slots, $sums>(&*hyper, &*segment, begin, end, &mut *sums.cast()) }
                    }
                )?
            )*

            /// What the binary says of itself, in a section that is taken out of it: each kernel's name, slots, sums and fields.
            const METADATA: &str = constcat::concat!(
                $(stringify!($name), " ", stringify!($slots), $(" by ", stringify!($sums),)? " ", <$rule>::FIELDS, "\n"),*
            );
        };
    }
    kernels!(export);

    /// Adds up the squares of a segment's gradients.
    /// # Safety
    /// `sum` and `segment` are valid, and the segment's pointers for `end` elements.
    #[wasm_bindgen]
    pub unsafe fn add_squares(_: usize, segment: *const Segment<0>, begin: usize, end: usize, sum: *mut f64) {
        unsafe { crate::rule::add_squares::<Simd>(&*segment, begin, end, &mut *sum) }
    }

    /// Adds up the products of a segment's parameters and gradients.
    /// # Safety
    /// The same.
    #[wasm_bindgen]
    pub unsafe fn dot(_: usize, segment: *const Segment<0>, begin: usize, end: usize, sum: *mut f64) {
        unsafe { crate::rule::dot::<Simd>(&*segment, begin, end, &mut *sum) }
    }

    /// Adds up the magnitudes of a segment's gradients, and finds the largest.
    /// # Safety
    /// `segment` and two numbers at `out` are valid, and the segment's pointers for `end` elements.
    #[wasm_bindgen]
    pub unsafe fn magnitude(_: usize, segment: *const Segment<0>, begin: usize, end: usize, out: *mut f64) {
        unsafe { crate::rule::magnitude::<Simd>(&*segment, begin, end, &mut *out.cast()) }
    }

    /// Combines a segment's parameters and gradients, by their two weights, in its slot.
    /// # Safety
    /// The weights and `segment` are valid, and the segment's pointers for `end` elements.
    #[wasm_bindgen]
    pub unsafe fn combine(weights: *const f64, segment: *const Segment<1>, begin: usize, end: usize) {
        unsafe { crate::rule::combine::<Simd>(*weights.cast(), &*segment, begin, end) }
    }

    /// Clips the gradients of a segment's units by their parameters.
    /// # Safety
    /// `units` and `segment` are valid, and the segment's pointers for all units' elements.
    #[wasm_bindgen]
    pub unsafe fn clip_units(units: *const Units, segment: *const Segment<0>, begin: usize, end: usize) {
        unsafe { crate::rule::clip_units::<Simd>(&*units, &*segment, begin, end) }
    }

    /// A product of matrices.
    /// # Safety
    /// `product` is valid, and what it says.
    #[wasm_bindgen]
    pub unsafe fn multiply(product: *const Product, _: usize, begin: usize, end: usize) {
        unsafe { crate::matrix::multiply::<Simd>(&*product, begin, end) }
    }

    /// Brings a matrix into another layout.
    /// # Safety
    /// `arrange` is valid, and what it says.
    #[wasm_bindgen]
    pub unsafe fn arrange(arrange: *const Arrange, _: usize, begin: usize, end: usize) {
        unsafe { crate::matrix::arrange(&*arrange, begin, end) }
    }

    macro_rules! reductions {
        ($($name:ident)*) => {$(
            /// Gathers gradients for rows or columns.
            /// # Safety
            /// `axes` and `segment` are valid, and what they say.
            #[wasm_bindgen]
            pub unsafe fn $name(axes: *const Axes, segment: *const Segment<0>, begin: usize, end: usize) {
                unsafe { crate::axes::$name::<Simd>(&*axes, &*segment, begin, end) }
            }
        )*};
    }
    reductions! { average_rows average_columns cover_rows cover_columns }

    /// Divides rows' numbers by their mean.
    /// # Safety
    /// `axes` is valid, and what it says.
    #[wasm_bindgen]
    pub unsafe fn divide_rows(axes: *const Axes, _: usize, begin: usize, end: usize) {
        unsafe { crate::axes::divide_rows(&*axes, begin, end) }
    }

    macro_rules! of_bases {
        ($($name:ident: $of:ty $(, $lane:ty)?;)*) => {$(
            /// What crate/src/basis.rs says.
            /// # Safety
            /// `of` is valid, and what it says.
            #[wasm_bindgen]
            pub unsafe fn $name(of: *const $of, _: usize, begin: usize, end: usize) {
                unsafe { crate::basis::$name$(::<$lane>)?(&*of, begin, end) }
            }
        )*};
    }
    of_bases! {
        find_reflections: Reflect, Simd;
        reflect: Reflect, Simd;
        rank: Order;
        reorder: Order;
        adapt: Adapt, Simd;
    }

    #[unsafe(link_section = "downhill")]
    pub static METADATA_SECTION: [u8; METADATA.len()] = unsafe { *METADATA.as_ptr().cast() };

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
}
