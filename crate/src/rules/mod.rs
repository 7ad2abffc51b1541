//! One file per optimizer, in order of increasing complexity.

pub mod adagrad;
pub mod adam;
pub mod adamw;
pub mod momentum;
pub mod rmsprop;
pub mod sgd;
