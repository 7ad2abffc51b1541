//! One file per optimizer, in order of increasing complexity.

pub mod adabelief;
pub mod adadelta;
pub mod adagrad;
pub mod adam;
pub mod adamax;
pub mod adamw;
pub mod adan;
pub mod ademamix;
pub mod adopt;
pub mod asgd;
pub mod lion;
pub mod momentum;
pub mod nadam;
pub mod radam;
pub mod rmsprop;
pub mod rprop;
pub mod sgd;
pub mod sign_sgd;
pub mod yogi;
