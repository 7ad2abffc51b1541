//! Kernels: functions over memory that the caller provides. Each rule has one for each set of slots. Kernels own nothing:
//! no heap, no stack, no writable data, no atomics. TypeScript owns the memory and calls kernels by name.

#![cfg_attr(target_arch = "wasm32", no_std)]

pub mod clip;
#[cfg(target_arch = "wasm32")]
pub mod exports;
pub mod f32x4;
pub mod factored;
pub mod guard;
pub mod math;
pub mod matrix;
pub mod qr;
pub mod rule;
pub mod rules;
pub mod scalar;
pub mod sort;
pub mod vector;

/// Passes the list of rules' kernels to the macro `$make`. A line is `name: struct of hyper-parameters, number of
/// slots`. A rule that measures first adds `by measuring_kernel: number of sums`. A name is the rule's, followed by the
/// options that add state, in the order of their slots.
#[macro_export]
macro_rules! kernels {
    ($make:ident) => {
        use $crate::rules::*;

        $make! {
            sgd: sgd::Sgd, 0;
            sgd_momentum: sgd::Sgd, 1;
            momentum: momentum::Momentum, 1;
            adagrad: adagrad::Adagrad, 1;
            rmsprop: rmsprop::Rmsprop<false>, 1;
            rmsprop_momentum: rmsprop::Rmsprop<false>, 2;
            rmsprop_centered: rmsprop::Rmsprop<true>, 2;
            rmsprop_centered_momentum: rmsprop::Rmsprop<true>, 3;
            adam: adam::Adam<false>, 2;
            adam_amsgrad: adam::Adam<false>, 3;
            adamw: adamw::AdamW, 2;
            adamw_amsgrad: adamw::AdamW, 3;
            sign_sgd: sign_sgd::SignSgd, 0;
            signum: signum::Signum, 1;
            lion: lion::Lion, 1;
            rprop: rprop::Rprop, 2;
            adadelta: adadelta::Adadelta, 2;
            adamax: adamax::Adamax, 2;
            radam: radam::RAdam, 2;
            adabelief: adabelief::AdaBelief, 2;
            yogi: yogi::Yogi, 2;
            adopt: adopt::Adopt, 2;
            ademamix: ademamix::AdEMAMix, 3;
            simplified_ademamix: simplified_ademamix::SimplifiedAdEMAMix, 2;
            adan: adan::Adan, 4;
            nadam: nadam::NAdam, 2;
            asgd: asgd::Asgd, 1;
            madgrad: madgrad::Madgrad, 3;
            schedule_free_sgd: schedule_free_sgd::ScheduleFreeSgd, 1;
            schedule_free_adamw: schedule_free_adamw::ScheduleFreeAdamW, 2;
            sophia: sophia::Sophia, 2;
            ftrl: ftrl::Ftrl, 2;
            optimistic_adam: optimistic_adam::OptimisticAdam, 3;
            noisy_sgd: noisy_sgd::NoisySgd, 0;
            cocob: cocob::Cocob, 5;
            lamb: lamb::Lamb, 2, by lamb_measure: 2;
            lars: lars::Lars, 1, by lars_measure: 2;
            novograd: novograd::NovoGrad, 1, by novograd_measure: 1;
            fromage: fromage::Fromage, 0, by fromage_measure: 2;
            dog: dog::Dog, 1, by dog_measure: 3;
            dowg: dowg::Dowg, 1, by dowg_measure: 2;
            dadapt_adamw: dadapt_adamw::DAdaptAdamW, 3, by dadapt_adamw_measure: 2;
            prodigy: prodigy::Prodigy, 4, by prodigy_measure: 2;
            muon: muon::Muon, 2, by muon_measure: 1;
            adafactor: adafactor::Adafactor, 3, by adafactor_measure: 2;
            sm3: sm3::Sm3, 3;
            shampoo: shampoo::Shampoo, 1, by shampoo_measure: 1;
            soap: soap::Soap, 2, by soap_measure: 1;
        }
    };
}
