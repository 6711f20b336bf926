//! The replica without a runtime: golden scripts, and lock-step clusters through faults in virtual time.

mod cluster;
mod founding;
mod gate;
mod lockstep;
mod scripts;
