//! AdamW: Adam with decoupled weight decay. Loshchilov & Hutter, 2019.

pub type AdamW = super::adam::Adam<true>;
