//! The guests' side: channels out of a VM, the wrapper for applications, the accept side of a compositor VM.

#![deny(unsafe_code)]

pub mod channel;
