//! The replica without a runtime: golden scripts, and lock-step clusters through faults in virtual time.

mod cluster;
mod disk;
mod founding;
mod gate;
mod lockstep;
mod observe;
mod scripts;
mod stall;
mod transfer;
