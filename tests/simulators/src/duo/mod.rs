//! Duo.
