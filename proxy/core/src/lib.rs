//! The RADIUS server without sockets, runtime or clock: bytes and time in, bytes and requests out.

pub mod factor;
