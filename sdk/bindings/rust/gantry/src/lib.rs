//! Modules for Gantry in Rust. A module is a struct that implements [`Module`] and the trait of its kind, exported once:
//!
//! ```ignore
//! struct Nofile { limit: i64 }
//! impl gantry::Module for Nofile { ... }
//! impl gantry::isolator::Isolator for Nofile { ... }
//! gantry::export_module!(isolator, Nofile, "acme-nofile");
//! ```
//!
//! The crate keeps the ABI's promises (`gantry/abi.h`): each call is completed exactly once ([`Call`], [`Completer`]),
//! bodies are verified before a method sees them, a panic becomes INTERNAL and ends nothing else, the host is not touched
//! after `destroy`. Methods run one at a time on the instance's strand and must not block there: use [`Host::offload`].
//!
//! Messages are in [`fb`]: readers `X<'_>` that borrow the body, owned `XT` to build and keep. What they mean is written in
//! the schemas (`share/gantry/schema`), contracts of the kinds in the documentation of the SDK.

pub mod abi;
mod call;
mod error;
pub mod fb;
pub mod flat;
mod host;
mod kinds;
mod line;
mod module;
pub mod testing;

pub use call::{now, Call, Completer, RawCall, Reply, Stream};
pub use error::{Code, Error, Result};
pub use flat::Message;
pub use host::{Host, Timer};
pub use kinds::*;
pub use line::{Level, Metric, MetricKind};
pub use module::{provider, Kind, Module, Note, Settings};

/// Exports one module: `export_module!(isolator, MyModule, "acme-mine")`. Kind, type, and the name `module.toml` gives.
/// The manifest beside `Cargo.toml` is embedded as ELF note. Use once per crate, whose type is `cdylib`.
#[macro_export]
macro_rules! export_module {
    ($kind:ident, $module:ty, $name:literal) => {
        const _: () = {
            const MANIFEST: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/module.toml"));
            #[used]
            #[link_section = ".note.gantry"]
            static NOTE: $crate::Note<{ MANIFEST.len() }> =
                $crate::Note::new(*include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/module.toml")));
            static PROVIDERS: [$crate::abi::Provider; 1] =
                [$crate::provider::<$crate::$kind::Kind, $module>(concat!($name, "\0"))];
            /// The only symbol of a module.
            #[no_mangle]
            #[allow(non_upper_case_globals)]
            pub static gantry_module_v1: $crate::abi::Module = $crate::abi::Module {
                magic: *b"GANTRYM\0",
                abi_major: $crate::abi::MAJOR,
                abi_minor: $crate::abi::MINOR,
                size: std::mem::size_of::<$crate::abi::Module>() as u32,
                provider_count: 1,
                provider_stride: std::mem::size_of::<$crate::abi::Provider>() as u32,
                providers: PROVIDERS.as_ptr(),
                build: $crate::abi::BUILD.as_ptr() as *const std::os::raw::c_char,
            };
        };
    };
}
