//! AdamW: Adam with decoupled weight decay. Loshchilov & Hutter, 2019.

/// A module of its own, because kernels are named by modules.
pub type AdamW = super::adam::Adam<true>;
