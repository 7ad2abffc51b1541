//! AdamW: Adam with decoupled weight decay. Loshchilov & Hutter, 2019.

/// This is a module of its own because the name of a kernel begins with that of its module.
pub type AdamW = super::adam::Adam<true>;
