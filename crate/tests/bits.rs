//! The kernels over scalars, compiled for this machine, give the published bits of the WebAssembly kernels.

use downhill::{
    f32x4::Scalar,
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
    /// Whether a step of the rule runs a program.
    #[serde(default)]
    program: bool,
    hyper: Vec<f64>,
    /// The scalars, which follow the hyper-parameters in memory: before the first step, and at each step.
    #[serde(default)]
    scalars: Vec<Vec<f64>>,
    /// The measured sums of each step.
    #[serde(default)]
    sums: Vec<Vec<f64>>,
    /// The initial value of each slot, or null if the slot starts as a copy of the parameters.
    slots: Vec<Option<f32>>,
    #[serde(rename = "gradScale")]
    grad_scale: f64,
    hash: String,
}

/// The arrays that a kernel works on.
struct Blocks {
    params: Vec<f32>,
    grads: Vec<f32>,
    slots: Vec<Vec<f32>>,
}

/// Measures with the first hyper-parameters, if the rule measures, and updates with the second. Returns the sums.
type Step = fn(hyper: [&[f64]; 2], blocks: &mut Blocks, step: usize, grad_scale: f64) -> Vec<f64>;

struct Kernel {
    /// The hyper-parameters' names and types.
    fields: &'static str,
    step: Step,
}

macro_rules! table {
    ($($name:ident: $rule:ty, $slots:literal $(, by $measure:ident: $sums:literal)?;)*) => {
        fn kernels() -> BTreeMap<&'static str, Kernel> {
            BTreeMap::from([$((stringify!($name), Kernel { fields: <$rule>::FIELDS, step: |hyper, blocks, step, grad_scale| {
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
                    low: f64::NEG_INFINITY,
                    high: f64::INFINITY,
                    params: blocks.params.as_mut_ptr(),
                    grads: blocks.grads.as_mut_ptr(),
                    averages: std::ptr::null_mut(),
                    zero_grad: 0,
                    bounded: 0,
                    in_streams: step as u32 % 2,
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
            }})),*])
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
            // As in test/conformance.ts: the gradients of every fifth element shrink to zero.
            let shrunk = |i: usize, g: f32| {
                if i % 5 == 4 { f64::from(g) / 2f64.powi(8 * (step as i32 - 1)) } else { f64::from(g) }
            };
            let mut grad = |i: usize| (next() / 2f64.powi(i as i32 % 24)) as f32;
            blocks.grads = padded((0..length).map(|i| shrunk(i, grad(i)) as f32).collect());
            let hyper = [step - 1, step].map(|step| {
                let scalars = case.scalars.get(step).cloned().unwrap_or_default();
                [case.hyper.clone(), scalars].concat()
            });
            let sums = (kernels[case.kernel.as_str()].step)([&hyper[0], &hyper[1]], &mut blocks, step, case.grad_scale);
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

/// Changes an ordinary gradient, given the step, counted from 1, and the index of the element.
#[cfg(target_arch = "x86_64")]
type Change = fn(step: usize, index: usize, grad: f32) -> f32;

#[cfg(target_arch = "x86_64")]
const CHANGES: [(&str, Change); 8] = [
    ("that stop", |step, _, g| if step < 5 { g } else { 0.0 }),
    ("that come once in a while", |step, _, g| if step % 700 == 1 { g } else { 0.0 }),
    ("that each come once in a while", |step, i, g| if (step + 37 * i) % 300 == 1 { g } else { 0.0 }),
    ("of 1e-12", |_, _, g| g * 1e-12),
    ("of 1e-20", |_, _, g| g * 1e-20),
    ("of 1e-30", |_, _, g| g * 1e-30),
    ("that shrink", |step, _, g| g * 2f32.powi(-((step / 15) as i32))),
    ("that are 1e-17 after ordinary ones", |step, _, g| if step < 100 { g } else { g * 1e-17 }),
];

/// Hyper-parameters with all decay rates replaced.
#[cfg(target_arch = "x86_64")]
fn with_decays(hyper: &[f64], fields: &str, decay: f64) -> Vec<f64> {
    let mut hyper = hyper.to_vec();
    let mut at = 0;
    for field in fields.replace("; ", ";").split_whitespace() {
        let (name, kind) = field.split_once(':').unwrap();
        let count = kind.strip_prefix("[f64;").map_or(1, |rest| rest.trim_end_matches(']').parse().unwrap());
        if ["betas", "momentum", "rho", "alpha"].contains(&name) {
            hyper[at..at + count].fill(decay);
        }
        at += count;
    }
    hyper
}

/// Processors take tens of times as long over subnormal numbers. (Comparing a subnormal gradient with a bound counts
/// here too, but takes no longer. `npm run bench` measures such gradients.)
#[cfg(target_arch = "x86_64")]
#[test]
fn small_and_stopped_gradients_make_no_subnormal_numbers() {
    const STEPS: usize = 1500;
    let Published { cases, .. } = serde_json::from_str(include_str!("../../test/bits.json")).unwrap();
    let kernels = kernels();
    let mut slow_cases = vec![];
    for case in cases.iter().filter(|case| !case.program) {
        let Kernel { fields, step: run } = &kernels[case.kernel.as_str()];
        let others = [0.0, 0.3, 0.5, 0.9].map(|decay| with_decays(&case.hyper, fields, decay));
        let mut hypers = vec![case.hyper.clone()];
        hypers.extend(others.into_iter().filter(|hyper| *hyper != case.hyper));
        for (hyper, (kind, change)) in hypers.iter().flat_map(|hyper| CHANGES.map(|change| (hyper, change))) {
            let mut next = numbers(1);
            let mut block = || (0..LINE).map(|_| next() as f32).collect::<Vec<f32>>();
            let params = block();
            let slots = case.slots.iter().map(|start| start.map_or(params.clone(), |start| vec![start; LINE]));
            let mut blocks = Blocks { params: params.clone(), grads: vec![], slots: slots.collect() };
            let mut slow = 0;
            for step in 1..=STEPS {
                let hyper = [step - 1, step].map(|step| {
                    let scalars = case.scalars.get(step).or(case.scalars.last()).cloned().unwrap_or_default();
                    [hyper.clone(), scalars].concat()
                });
                blocks.grads = block().into_iter().enumerate().map(|(i, g)| change(step, i, g)).collect();
                subnormal();
                run([&hyper[0], &hyper[1]], &mut blocks, step, case.grad_scale);
                slow += usize::from(subnormal());
                if blocks.params.iter().any(|p| p.abs() < 1e-15) {
                    break; // subnormal parameters, after very long decay, are not covered
                }
            }
            // An element may have some at the step in which its state becomes zero.
            if slow > LINE {
                slow_cases.push(format!("{} {hyper:?} with gradients {kind}: {slow} of {STEPS} steps", case.name));
            }
        }
    }
    assert!(slow_cases.is_empty(), "{} cases:\n{}", slow_cases.len(), slow_cases.join("\n"));
}

#[test]
fn guards_act_at_steps_beyond_32_bits() {
    let Published { cases, .. } = serde_json::from_str(include_str!("../../test/bits.json")).unwrap();
    let case = cases.iter().find(|case| case.kernel == "momentum").unwrap();
    let blocks = || Blocks { params: vec![1.0; LINE], grads: vec![0.0; LINE], slots: vec![vec![1.5e-38; LINE]] };
    for step in [16, 1 << 32, (1 << 40) + 16] {
        let [mut guarded, mut next] = [blocks(), blocks()];
        let run = kernels()[case.kernel.as_str()].step;
        run([&case.hyper, &case.hyper], &mut guarded, step, 1.0);
        assert_eq!(guarded.slots, [vec![0.0; LINE]], "step {step}");
        run([&case.hyper, &case.hyper], &mut next, step + 1, 1.0);
        assert_ne!(next.slots, [vec![0.0; LINE]], "step {}", step + 1);
    }
}
