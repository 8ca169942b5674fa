//! The RADIUS server without sockets, runtime or clock: bytes and time in, bytes and requests out.
//!
//! [`Settings::check`] makes of a checked configuration what the [`Engine`] works with. The caller owns the sockets,
//! the clock and the providers: it hands every datagram to [`Engine::receive`] (or, opened by whatever thread
//! took it, to [`Engine::take`]), asks a provider for each
//! [`factor::FactorRequest`] that comes out, hands its end to [`Engine::verdict`], and calls [`Engine::tick`] at
//! [`Engine::next_deadline`]. Nothing here waits, and nothing here can grow without a bound.

mod addresses;
mod answered_codes;
mod bounded;
mod challenge;
mod clients;
pub mod counters;
pub mod dictionary;
mod duplicates;
mod engine;
pub mod factor;
mod known_texts;
mod late;
mod limits;
mod logins;
mod message_authenticator;
mod observed;
mod opened;
pub mod outputs;
mod packet;
mod password;
pub mod peers;
mod random;
pub mod record;
mod reply;
mod sender;
mod settings;
mod shared;
#[cfg(test)]
mod testing;
mod time;
mod typed;
mod user_name;
mod verify;

pub use engine::Engine;
pub use observed::ObservedChanges;
pub use opened::Opened;
pub use settings::Settings;
pub use time::Now;
