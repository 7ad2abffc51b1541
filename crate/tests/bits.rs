//! The kernels over scalars, compiled for this machine, give the published bits of the WebAssembly kernels.

use downhill::{
    lane::Scalar,
    rule::{LINE, Segment, measure, run},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Published {
    length: usize,
    steps: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kernel: String,
    /// Whether a step runs a program, and not only its kernels.
    #[serde(default)]
    program: bool,
    hyper: Vec<f64>,
    /// The scalars that follow them: before the first step, and at each step.
    #[serde(default)]
    scalars: Vec<Vec<f64>>,
    /// The measured sums of each step.
    #[serde(default)]
    sums: Vec<Vec<f64>>,
    /// The initial value of each slot; null for a copy of the parameters.
    slots: Vec<Option<f32>>,
    #[serde(rename = "gradScale")]
    grad_scale: f64,
    hash: String,
}

/// The blocks that a kernel works on.
struct Blocks {
    params: Vec<f32>,
    grads: Vec<f32>,
    slots: Vec<Vec<f32>>,
}

/// Measures with the first hyper-parameters, if the rule measures, and updates with the second. Returns the sums.
type Kernel = fn(hyper: [&[f64]; 2], blocks: &mut Blocks, step: usize, grad_scale: f64) -> Vec<f64>;

macro_rules! table {
    ($($name:ident: $rule:ty, $slots:literal $(, by $measure:ident: $sums:literal)?;)*) => {
        fn kernels() -> BTreeMap<&'static str, Kernel> {
            BTreeMap::from([$((stringify!($name), (|hyper, blocks, step, grad_scale| {
                let [before, hyper]: [&$rule; 2] = hyper.map(|numbers| {
                    assert_eq!(size_of_val(numbers), size_of::<$rule>());
                    unsafe { &*numbers.as_ptr().cast() }
                });
                let mut slots = blocks.slots.iter_mut().map(|slot| slot.as_mut_ptr());
                let segment = Segment::<$slots> {
                    step: step as f64,
                    grad_scale,
                    clip: f64::INFINITY,
                    blend: 0.0,
                    params: blocks.params.as_mut_ptr(),
                    grads: blocks.grads.as_mut_ptr(),
                    averages: std::ptr::null_mut(),
                    zero_grad: 0,
                    slots: std::array::from_fn(|_| slots.next().unwrap()),
                };
                let mut measured = vec![];
                $(
                    let mut sums = [0.0; $sums];
                    unsafe { measure::<Scalar, $rule, $slots, $sums>(before, &segment, 0, blocks.params.len(), &mut sums) };
                    measured.extend(sums);
                )?
                let _ = (before, &mut measured); // unused if nothing is measured
                unsafe { run::<Scalar, $rule, $slots>(hyper, &segment, 0, blocks.params.len()) }
                measured
            }) as Kernel)),*])
        }

        /// The struct of each kernel, as `module::Name`.
        const STRUCTS: &[&str] = &[$(stringify!($rule)),*];
    };
}
downhill::kernels!(table);

#[test]
fn every_file_of_rules_has_a_kernel() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/rules")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        let listed = STRUCTS.iter().any(|name| name.split("::").next().map(str::trim) == Some(module));
        assert!(
            module == "mod" || listed,
            "rules/{module}.rs has no kernel: add `pub mod {module};` to rules/mod.rs, and a line to `kernels!` in lib.rs"
        );
    }
}

/// Pseudo-random numbers in [-1, 1), the same as in test/harness.ts.
fn numbers(seed: u32) -> impl FnMut() -> f64 {
    let mut x = seed;
    move || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        f64::from(x as i32) / 2f64.powi(31)
    }
}

#[test]
fn every_kernel_gives_the_published_bits() {
    let text = include_str!("../../test/bits.json");
    let Published { length, steps, cases } = serde_json::from_str(text).unwrap();
    let kernels = kernels();
    for case in cases.iter().filter(|case| !case.program) {
        let mut next = numbers(1);
        let padding = length.next_multiple_of(LINE) - length;
        let padded = |values: Vec<f32>| [values, vec![0.0; padding]].concat();
        let params = padded((0..length).map(|_| next() as f32).collect());
        let slot = |start: &Option<f32>| start.map_or(params.clone(), |start| vec![start; length + padding]);
        let slots = case.slots.iter().map(slot).collect();
        let mut blocks = Blocks { params, grads: padded(vec![0.0; length]), slots };
        for step in 1..=steps {
            blocks.grads = padded((0..length).map(|i| (next() / 2f64.powi(i as i32 % 24)) as f32).collect());
            let hyper = [step - 1, step].map(|step| {
                let scalars = case.scalars.get(step).cloned().unwrap_or_default();
                [case.hyper.clone(), scalars].concat()
            });
            let sums = kernels[case.kernel.as_str()]([&hyper[0], &hyper[1]], &mut blocks, step, case.grad_scale);
            assert_eq!(sums, case.sums.get(step - 1).cloned().unwrap_or_default(), "{}", case.name);
        }
        let mut hash = Sha256::new();
        for block in [&blocks.params].into_iter().chain(&blocks.slots) {
            block[..length].iter().for_each(|x| hash.update(x.to_le_bytes()));
        }
        assert_eq!(format!("{:x}", hash.finalize()), case.hash, "{}", case.name);
    }
    let reached = kernels.keys().filter(|name| cases.iter().any(|case| case.kernel == **name));
    assert_eq!(reached.count(), kernels.len(), "kernels without a published case");
}

/// Whether an operation since the last call read or gave a subnormal number, according to the processor's flags.
#[cfg(target_arch = "x86_64")]
fn subnormal() -> bool {
    const FLAGS: u32 = 0x3f;
    const DENORMAL_OPERAND_OR_UNDERFLOW: u32 = 1 << 1 | 1 << 4;
    let mut status = 0u32;
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut status) };
    let cleared = status & !FLAGS;
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &cleared) };
    status & DENORMAL_OPERAND_OR_UNDERFLOW != 0
}

/// Processors take tens of times as long over subnormal numbers. (Comparing a subnormal gradient with a bound counts
/// here too, but takes no longer. `npm run bench` measures such gradients.)
#[cfg(target_arch = "x86_64")]
#[test]
fn small_and_stopped_gradients_make_no_subnormal_numbers() {
    const STEPS: usize = 1500;
    let Published { cases, .. } = serde_json::from_str(include_str!("../../test/bits.json")).unwrap();
    let kernels = kernels();
    type Grad = fn(step: usize, ordinary: f32) -> f32;
    let kinds: [(&str, Grad); 4] = [
        ("that stop", |step, g| if step < 5 { g } else { 0.0 }),
        ("that come once in a while", |step, g| if step % 700 == 1 { g } else { 0.0 }),
        ("of 1e-12", |_, g| g * 1e-12),
        ("of 1e-20", |_, g| g * 1e-20),
    ];
    for (case, (kind, grad)) in
        cases.iter().filter(|case| !case.program).flat_map(|case| kinds.map(|kind| (case, kind)))
    {
        let mut next = numbers(1);
        let mut block = || (0..LINE).map(|_| next() as f32).collect::<Vec<f32>>();
        let params = block();
        let slots = case.slots.iter().map(|start| start.map_or(params.clone(), |start| vec![start; LINE])).collect();
        let mut blocks = Blocks { params, grads: vec![], slots };
        let mut slow = 0;
        for step in 1..=STEPS {
            let hyper = [step - 1, step].map(|step| {
                let scalars = case.scalars.get(step).or(case.scalars.last()).cloned().unwrap_or_default();
                [case.hyper.clone(), scalars].concat()
            });
            blocks.grads = block().into_iter().map(|g| grad(step, g)).collect();
            subnormal();
            kernels[case.kernel.as_str()]([&hyper[0], &hyper[1]], &mut blocks, step, case.grad_scale);
            slow += usize::from(subnormal());
            if blocks.params.iter().any(|p| p.abs() < 1e-15) {
                break; // parameters that have decayed for so long are out of scope
            }
        }
        // Each element may have a few while its state goes to zero.
        assert!(slow <= 3 * LINE, "{} with gradients {kind}: {slow} of {STEPS} steps", case.name);
    }
}
